"""Describe the process that holds a lock, and find out whether it still runs.

A lock that `flock` protects needs this only for messages. On file systems without `flock`, or where
it does not exclude other machines, this decides whether a lock file is stale.
"""

from __future__ import annotations

import os
import secrets
import socket
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from contract.records import Record

#: How often a holder shows that it runs, where other machines cannot find out otherwise.
BEAT_S = 10.0
#: A holder that was seen within this time runs.
FRESH_S = 6 * BEAT_S

_PROC = Path("/proc")


class State(Enum):
    """The answers to the question whether the holder of a lock still runs."""

    RUNNING = "running"
    ENDED = "ended"
    #: It is on another machine, and has not been seen for a while.
    UNKNOWN = "unknown"


class Holder(Record):
    """The process that holds a lock. Process ids are used again; the other fields tell which."""

    host: str
    pid: int
    #: When it took the lock, in UTC.
    began: str
    #: Differs between two locks of the same process.
    token: str
    #: The start of the machine, and the process ids that its container knows. Only Linux has these.
    boot_id: str | None
    pid_namespace: str | None
    #: The start of the process, in clock ticks since the start of the machine.
    start_ticks: int | None

    @classmethod
    def this_process(cls) -> Self:
        """Describe this process."""
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            began=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            token=secrets.token_hex(8),
            boot_id=_read(_PROC / "sys/kernel/random/boot_id"),
            pid_namespace=_pid_namespace(),
            start_ticks=_start_ticks(os.getpid()),
        )

    @classmethod
    def parse(cls, content: bytes) -> Self | None:
        """Return the holder in a lock file; None if the content is not one of this version."""
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            return None

    def state(self, here: Holder, age_s: float) -> State:
        """Return whether the process runs, as `here` can tell. It was last seen `age_s` ago."""
        is_same_start = self.boot_id == here.boot_id
        if is_same_start and self.host == here.host and self.pid_namespace == here.pid_namespace:
            return State.RUNNING if self._is_alive() else State.ENDED
        if age_s < FRESH_S:
            return State.RUNNING
        # The machine was started again.
        return State.ENDED if self.host == here.host and not is_same_start else State.UNKNOWN

    def _is_alive(self) -> bool:
        """Return whether this machine has the process, and not another one with its id."""
        if self.start_ticks is not None:
            return _start_ticks(self.pid) == self.start_ticks
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # the process of another user
        return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.began}"


def _start_ticks(pid: int) -> int | None:
    stat = _read(_PROC / f"{pid}/stat")
    # The name of the program, in parentheses, may contain spaces and parentheses.
    fields = stat.rpartition(")")[2].split() if stat else []
    if not fields or fields[0] in "ZX":  # it has ended, and its parent has not noticed yet
        return None
    return int(fields[19])


def _pid_namespace() -> str | None:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
