"""Replace output files in one step, by one process at a time.

An existing output is replaced in one step, and keeps its mode, owner and access control list. For a
link, the target is replaced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

from contract.errors import InvalidInput, RerankError
from producer.files.compressed_outputs import compressing
from producer.files.quoting import shown
from producer.files.remote import is_remote
from producer.files.streams import descriptor_of, is_stream, open_stream

#: Mode of a new file, before the process's umask.
NEW_FILE_MODE = 0o666
#: Errors of file systems without `flock`.
NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def check_writable(output: str) -> None:
    """Raise `InvalidInput` unless a file of that name can be created or replaced."""
    if is_remote(output):
        raise InvalidInput(
            f"{shown(output)}: remote files are only read; write to a local file, and copy it when"
            " the command has ended"
        )
    if is_stream(output):
        return
    path = resolve(output)
    named = shown(output)
    try:
        if Path(output).is_symlink():
            named += f" -> {path}"
        if path.is_dir() or output.endswith("/"):
            raise InvalidInput(f"{named}: this is a directory; pass a file name")
        if not path.parent.is_dir():
            raise InvalidInput(f"{named}: its directory does not exist; create it first")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise InvalidInput(f"{named}: its directory is not writable")
        if path.exists() and not os.access(path, os.W_OK):
            raise InvalidInput(f"{named}: the file is not writable")
    except OSError as error:
        raise InvalidInput(f"{named}: {error.strerror}") from error


def resolve(output: str) -> Path:
    """Return the file that a name refers to, through any links. Raises `InvalidInput`."""
    try:
        path = Path(output).resolve()
        if path.is_symlink():  # since Python 3.13, links that lead to each other are not an error
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return path
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise InvalidInput(f"{shown(output)}: {error.strerror}") from error
        raise InvalidInput(f"{output}: its symbolic link cannot be resolved ({error})") from error


def sibling_path(output: str, ending: str) -> Path:
    """Return a file next to an output, the same for all processes that write the output.

    For a link, it is next to the target.
    """
    return Path(f"{resolve(output) if Path(output).is_symlink() else output}{ending}")


def unfinished_path(output: str) -> Path:
    """Return the path where an output is written before it is renamed."""
    path = resolve(output)
    # The name is always the same, so that the next process overwrites the file of a killed one.
    return path.with_name(f".{path.name}.unfinished")


def private_mode(*outputs: str | None) -> int:
    """Return a mode that grants no more rights than each of these files does."""
    mode = NEW_FILE_MODE
    for output in outputs:
        if output and not is_stream(output) and resolve(output).exists():
            mode &= resolve(output).stat().st_mode
    return mode


def open_locked(path: Path, mode: int = NEW_FILE_MODE, flags: int = 0, name: str = "") -> IO[bytes]:
    """Open or create a file for reading and writing, and lock it until it is closed.

    Its content is kept, and its rights are limited to `mode`. Raises `InvalidInput` if another
    process has locked it, with `name` in the message, or `OSError`.
    """
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | flags, mode), "r+b")
        try:
            found = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(found):
                raise InvalidInput(f"{path}: this is not a regular file")
            _flock(file)
            if _still_named(file, path):
                if found & NEW_FILE_MODE & ~mode:
                    os.fchmod(file.fileno(), found & mode)
                return file
        except BlockingIOError:
            file.close()
            raise InvalidInput(
                f"{name or path}: another rerankq process is writing this file; wait until it ends,"
                " or choose another name"
            ) from None
        except BaseException:
            file.close()
            raise
        file.close()


def _flock(file: IO[bytes]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        # There, only the lock of the command protects its outputs: see `output_locks`.


def _still_named(file: IO[bytes], path: Path) -> bool:
    """Return whether the open file still has this path; it can be renamed before it is locked."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


class OutputFile:
    """An output that no other process can write while it is open. Use it in a `with` block.

    Raises `InvalidInput` if another process has locked it, or if it cannot be opened.
    """

    def __init__(self, name: str, mode: int = NEW_FILE_MODE) -> None:
        self.name = name
        self._mode = mode
        self._path: Path | None = None
        try:
            if is_stream(name):
                self._file = open_stream(name)
                return
            self._path = resolve(name)
            self._mode &= private_mode(name)
            # Do not follow a link that another user may have put there.
            self._file = open_locked(unfinished_path(name), self._mode, os.O_NOFOLLOW, name)
        except OSError as error:
            raise InvalidInput(f"{name}: cannot be written ({error.strerror})") from error

    @contextmanager
    def atomic(self) -> Iterator[IO[bytes]]:
        """Yield a file that is synced to disk and renamed to the output at the end of the block.

        Raises `OSError`, which names the output, if the disk is full.
        """
        try:
            if self._path is None:
                with compressing(self.name, self._file) as file:
                    yield file
                self._file.flush()
                return
            self._file.seek(0)
            self._file.truncate()
            if self._path.exists():
                _take_rights(
                    self._path, unfinished_path(self.name), self._file.fileno(), self._mode
                )
            with compressing(self.name, self._file) as file:
                yield file
            self._file.flush()
            os.fsync(self._file.fileno())
            unfinished_path(self.name).replace(self._path)
        except BrokenPipeError as error:
            if descriptor_of(self.name) is not None:
                raise
            raise RerankError(f"{self.name}: the process that reads from it has ended") from error
        except OSError as error:
            if error.filename is not None:
                raise
            raise OSError(error.errno, error.strerror, self.name) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is getattr(sys.stdout, "buffer", None):
            return
        left = unfinished_path(self.name) if self._path is not None else None
        if left is not None and _still_named(self._file, left):
            left.unlink()
        # A full disk, or a pipe without a reader, fails again for the rest.
        with suppress(OSError):
            self._file.close()


@contextmanager
def atomic_file(output: str | OutputFile, mode: int = NEW_FILE_MODE) -> Iterator[IO[bytes]]:
    """Yield a file that is synced to disk and renamed to the output at the end of the block."""
    if isinstance(output, OutputFile):
        with output.atomic() as file:
            yield file
        return
    with OutputFile(output, mode) as made, made.atomic() as file:
        yield file


def _take_rights(existing: Path, made: Path, descriptor: int, mode: int) -> None:
    """Give a new file the owner, mode and access control list of the one that it replaces."""
    old, new = existing.stat(), os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        for owner in ((old.st_uid, old.st_gid), (-1, old.st_gid)):
            with suppress(PermissionError):
                os.fchown(descriptor, *owner)
                break
    shutil.copystat(existing, made)
    if os.fstat(descriptor).st_gid != old.st_gid:
        mode &= ~stat.S_IRWXG  # these rights were granted to another group
    os.fchmod(descriptor, old.st_mode & (mode | 0o111) & 0o777)
