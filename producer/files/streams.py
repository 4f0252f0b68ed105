"""Write to outputs that cannot be replaced: open files, devices, named pipes."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

from contract.errors import InvalidInput
from contract.printable import visible
from producer.files.reading import STDIN

#: The name for standard output, instead of a file.
STDOUT = STDIN
#: The longest chain of links that is followed.
LINKS = 40


def is_stream(output: str) -> bool:
    """Return whether an output is an open file, a device or a named pipe."""
    path = Path(output)
    try:
        return descriptor_of(output) is not None or (
            path.exists() and not path.is_file() and not path.is_dir()
        )
    except OSError:  # such as a name that is too long
        return False


def open_stream(name: str) -> IO[bytes]:
    """Open a stream for writing. Raises `InvalidInput`, or `OSError`."""
    descriptor = descriptor_of(name)
    if descriptor is None:
        return _open_pipe(name) if Path(name).is_fifo() else Path(name).open("wb")
    if descriptor == 1:
        if sys.stdout is None or sys.stdout.closed:
            raise InvalidInput(f"{name}: standard output is closed")
        stream: IO[bytes] = sys.stdout.buffer
        # A terminal would interpret control characters in ids.
        return cast("IO[bytes]", _Visible(stream)) if sys.stdout.isatty() else stream
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise InvalidInput(f"{name}: the file is not open for writing")
    return os.fdopen(os.dup(descriptor), "wb")


def _open_pipe(name: str) -> IO[bytes]:
    """Open a named pipe without waiting for a reader."""
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInput(
            f"{name}: no process reads from this pipe; start the reader first"
        ) from error
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


class _Visible:
    """A terminal that receives lines of text with control characters escaped."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        self._stream.write(visible(data.decode(), keep="\n").encode())
        return len(data)

    def writelines(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Do nothing: standard output belongs to the process."""


def descriptor_of(output: str) -> int | None:
    """Return the descriptor of an open file of this process (1 for /dev/stdout), else None."""
    if output == STDOUT:
        return 1
    path = Path(output).absolute()
    for _ in range(LINKS):
        if path.name.isdigit() and _lists_open_files(path.parent):
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _lists_open_files(folder: Path) -> bool:
    return os.path.realpath(folder) in (f"/proc/{os.getpid()}/fd", "/dev/fd")
