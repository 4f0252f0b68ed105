"""Ask the operating system to read the file of a cache before its pages are needed one by one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

#: To read this much in order takes as long as the look-up of a query at a random place.
BYTES_PER_QUERY = 100_000
#: A larger file may not fit into the memory of the machine.
MOST_BYTES = 1 << 30
#: Linux reads no more for each call than for a file that is read in order.
_AT_ONCE = 128 * 1024

_Advise = Callable[[int, int, int, int], None]
#: macOS has none.
_ADVISE: _Advise | None = getattr(os, "posix_fadvise", None)


def read_ahead(path: Path, queries: int, advise: _Advise | None = _ADVISE) -> None:
    """Have the file read, if that is faster than to look up this many queries without it.

    The memory is that of the operating system, which takes it back when it is needed. The file must
    not be open in this process: SQLite would lose its locks when it is closed here.
    """
    if advise is None:
        return
    with path.open("rb") as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        if size > min(MOST_BYTES, queries * BYTES_PER_QUERY):
            return
        for offset in range(0, size, _AT_ONCE):
            advise(descriptor, offset, _AT_ONCE, os.POSIX_FADV_WILLNEED)
