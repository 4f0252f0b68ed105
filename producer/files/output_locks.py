"""Reserve an output for one process, which other processes name when they are refused.

The lock is a file next to the output, locked with `flock`, with the holder as content. A process
that is killed leaves the file, and the next one takes it over, because `flock` shows that the
holder has ended.

Some file systems have no `flock`, and on others it does not exclude other machines. There, the file
itself is the lock. Its holder renews its time, and another process takes it over only if it is
certain that the holder has ended.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from contract.errors import InvalidInput, RerankError
from producer.files import file_systems
from producer.files.lock_holders import BEAT_S, Holder, State
from producer.files.outputs import NEW_FILE_MODE, NO_FLOCK, resolve

#: More than the content of a lock file.
_MOST_BYTES = 4_096
#: Errors of a full disk.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: How long to wait for a call that renews the time of the file.
_JOIN_S = 5.0
#: How often to try again if the file is replaced at the same moment.
_TRIES = 100


class OutputLock:
    """The lock of an output. Use it in a `with` block.

    Raises `InvalidInput` when constructed if another process has it or may have it, and `OSError`
    if the disk is full. `notify` receives a message if the lock of a process that has ended is
    taken over. `flock` and `excludes_all` are those of the file system.
    """

    def __init__(
        self,
        output: str,
        notify: Callable[[str], object] = lambda _: None,
        *,
        flock: Callable[[int, int], None] = fcntl.flock,
        excludes_all: bool | None = None,
        beat_s: float = BEAT_S,
    ) -> None:
        self._output, self._notify, self._flock, self._beat_s = output, notify, flock, beat_s
        self.path = lock_path(output)
        if excludes_all is None:
            excludes_all = file_systems.locks_exclude_all(self.path)
        self._excludes_all = excludes_all
        self._holder = Holder.this_process()
        self._ended = threading.Event()
        self._beating: threading.Thread | None = None
        try:
            self._descriptor = self._take()
        except OSError as error:
            if error.errno in _FULL:
                raise OSError(error.errno, error.strerror, str(self.path)) from error
            raise InvalidInput(f"{self.path}: {error.strerror}") from error

    def _take(self) -> int:
        """Lock the file, and return its descriptor. Raises `OSError`."""
        for _ in range(_TRIES):
            if (opened := self._opened()) is None:
                continue
            descriptor, is_new = opened
            is_taken = False
            try:
                has_flock = self._try_flock(descriptor)
                if self._is_named(descriptor) and (
                    is_new or self._take_over(descriptor, has_flock=has_flock)
                ):
                    self._write_holder(descriptor)
                    if not (has_flock and self._excludes_all):
                        self._beating = threading.Thread(
                            target=self._beat, args=(descriptor,), daemon=True
                        )
                        self._beating.start()
                    is_taken = True
                    return descriptor
            finally:
                if not is_taken:
                    os.close(descriptor)
        raise self._refused("")

    def _write_holder(self, descriptor: int) -> None:
        content = self._holder.model_dump_json().encode() + b"\n"
        try:
            os.ftruncate(descriptor, 0)
            if os.pwrite(descriptor, content, 0) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self.path.unlink()  # a part of the content would keep others out
            raise

    def _opened(self) -> tuple[int, bool] | None:
        """Open the file, and return whether it is new; None if another process removes it."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(self.path, flags | os.O_CREAT | os.O_EXCL, NEW_FILE_MODE), True
        except FileExistsError:
            pass
        try:
            descriptor = os.open(self.path, flags)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InvalidInput(f"{self.path}: this is not a regular file")
        return descriptor, False

    def _try_flock(self, descriptor: int) -> bool:
        """Lock the file; return False if the file system has no `flock`."""
        try:
            self._flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = Holder.parse(os.pread(descriptor, _MOST_BYTES, 0))
            raise self._refused(f": {holder}" if holder else "") from None
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            return False
        return True

    def _take_over(self, descriptor: int, *, has_flock: bool) -> bool:
        """Return whether the file that another process has left may be used.

        Raises `InvalidInput` if that process may be running. False is returned after the file is
        removed.
        """
        content = os.pread(descriptor, _MOST_BYTES, 0)
        holder = Holder.parse(content)
        is_certain = has_flock and self._excludes_all
        if holder is None and (content or not is_certain):
            raise InvalidInput(
                f"{self.path}: this is not a lock file of this version of rerankq; if no command"
                f" writes {self._output}, delete it"
            )
        if holder is None:  # the process was killed before it could write
            return True
        if not is_certain:
            self._check_ended(holder, self._age_s(descriptor))
        self._notify(f"{self.path}: taken over from {holder}, which has ended")
        if has_flock:
            return True
        # Another process may have taken it over meanwhile.
        if self.path.read_bytes() == content:
            self.path.unlink()
        return False

    def _check_ended(self, holder: Holder, age_s: float) -> None:
        state = holder.state(self._holder, age_s)
        if state is State.RUNNING:
            raise self._refused(f": {holder}")
        if state is State.UNKNOWN:
            raise InvalidInput(
                f"{self._output}: another rerankq process may be writing this file: {holder}, last"
                f" seen {age_s / 60:,.0f} minutes ago; if it has ended, delete {self.path}, and run"
                " the command again"
            )

    def _refused(self, holder: str) -> InvalidInput:
        return InvalidInput(
            f"{self._output}: another rerankq process is writing this file{holder}; wait until it"
            " ends, or choose another name"
        )

    def _age_s(self, descriptor: int) -> float:
        """Return how long ago the holder was seen, by the clock of the file system."""
        with tempfile.TemporaryFile(dir=self.path.parent) as now:
            return os.fstat(now.fileno()).st_mtime - os.fstat(descriptor).st_mtime

    def _beat(self, descriptor: int) -> None:
        while not self._ended.wait(self._beat_s):
            with suppress(OSError):  # the next beat may succeed, and `check` finds a lost lock
                os.utime(descriptor)

    def _is_named(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.lstat())
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Raise `RerankError` if the file was deleted or replaced, so that others may write."""
        content = os.pread(self._descriptor, _MOST_BYTES, 0)
        if not self._is_named(self._descriptor) or Holder.parse(content) != self._holder:
            raise RerankError(
                f"{self.path}: deleted or replaced while this command ran, so another one may be"
                f" writing {self._output}; run the same command again"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._beating:
            self._beating.join(_JOIN_S)
        # A file that cannot be removed is taken over by the next process.
        with suppress(OSError):
            if self._is_named(self._descriptor):
                self.path.unlink()
        os.close(self._descriptor)


def lock_path(output: str) -> Path:
    """Return the path of an output's lock, the same for all names of the output."""
    path = resolve(output)
    return path.with_name(f"{path.name}.lock")
