"""What a worker is doing until it is ready, for those who wait for it.

The text is kept in memory that forked children share with their parent, so that the main process
can report what its children are doing. The last writer wins: the children of a worker all load the
same models.
"""

from __future__ import annotations

import mmap

_BYTES = 512
_board = mmap.mmap(-1, _BYTES)


def write(text: str) -> None:
    """Replace the stage, as in `loading model 'bundled'`; an empty text means none."""
    written = text.encode()[: _BYTES - 1]
    _board[: len(written) + 1] = written + b"\0"


def read() -> str:
    """Return the current stage, or an empty text."""
    return _board[:].partition(b"\0")[0].decode(errors="ignore")
