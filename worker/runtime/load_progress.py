"""What a worker is doing until it is ready, for those who wait for it.

The text is kept in memory that forked children share with their parent, so that the main process
can report what its children are doing. The last writer wins: the children of a worker all load the
same models.
"""

from __future__ import annotations

import mmap

BYTES = 512


class LoadProgress:
    """The stage that the process which wrote last was at."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, BYTES)

    def write(self, text: str) -> None:
        """Replace the stage, as in `loading model 'bundled'`; an empty text means none."""
        written = text.encode()[: BYTES - 1]
        self._memory[: len(written) + 1] = written + b"\0"

    def read(self) -> str:
        """Return the current stage, or an empty text."""
        return self._memory[:].partition(b"\0")[0].decode(errors="ignore")
