"""The loading stage of a worker, for clients that wait until it is ready.

The text is stored in memory that forked children share with the main process, so that the main
process can report what its children are doing. The last writer wins, because all children of a
worker load the same models.
"""

from __future__ import annotations

import mmap

BYTES = 512


class LoadProgress:
    """The loading stage that a process wrote last."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, BYTES)

    def write(self, text: str) -> None:
        """Replace the stage, for example with `loading model 'bundled'`. Empty text means none."""
        written = text.encode()[: BYTES - 1]
        self._memory[: len(written) + 1] = written + b"\0"

    def read(self) -> str:
        """Return the current stage, or an empty text."""
        return self._memory[:].partition(b"\0")[0].decode(errors="ignore")
