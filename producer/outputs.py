"""Files that a command makes: whole or not at all, and by one process at a time."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from contract.errors import InvalidInput
from producer.formats import STDIN

#: Standard output, in place of a file.
STDOUT = STDIN


def is_stream(output: str) -> bool:
    """Whether it is written to as it is: standard output, a device, a named pipe."""
    path = Path(output)
    return output == STDOUT or (path.exists() and not path.is_file() and not path.is_dir())


def check_writable(output: str) -> None:
    """Raise `InvalidInput` unless a file of that name can be made."""
    if is_stream(output):
        return
    path = Path(output)
    if path.is_dir():
        raise InvalidInput(f"{output}: this is a directory, not a file")
    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"{output}: the folder does not exist")
    if not os.access(path.absolute().parent, os.W_OK):
        raise InvalidInput(f"{output}: the folder cannot be written to")


def open_locked(path: Path) -> IO[bytes]:
    """Open a file for reading and writing, or make it; nobody else can until it is closed.

    What it holds is left as it is. Raises `InvalidInput` if another process has it, or `OSError`.
    """
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _still_named(file, path):
                return file
        except BlockingIOError:
            file.close()
            raise InvalidInput(
                f"{path}: another rerankq is writing it: wait for its end, or give another --output"
            ) from None
        except BaseException:
            file.close()
            raise
        file.close()


def _still_named(file: IO[bytes], path: Path) -> bool:
    """Whether nobody has removed or renamed it between its opening and its locking."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def whole_file(output: str) -> Iterator[IO[bytes]]:
    """A file that has its name only once it is whole, and on disk."""
    if output == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output).resolve()  # what a link points to is replaced, not the link
    if is_stream(output):
        with path.open("wb") as stream:
            yield stream
        return
    # One name for all attempts: what a killed one left is overwritten by the next.
    unfinished = path.with_name(f".{path.name}.unfinished")
    with open_locked(unfinished) as file:
        try:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
