"""The models and settings of each process of a worker, for producers that keep scores in a cache.

It is in memory that forked children share with the main process, which answers producers. Children
can differ: one that was replaced loads a model again, and its files may have changed.
"""

from __future__ import annotations

import json
import mmap
import os
import threading
from collections.abc import Collection, Mapping

from contract.scoring import ScoringIdentity

#: The number of places in a pool, and the bytes for each, which are allocated when they are used.
PLACES, BYTES = 1_024, 4_096


class LoadedScorings:
    """The digests of `ScoringIdentity` by process and model."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, PLACES * BYTES)
        #: By place, whether it was ever used.
        self._used = mmap.mmap(-1, PLACES)
        self._lock = threading.Lock()
        #: What this process has loaded, and its id, which a fork does not share.
        self._own: dict[str, str] = {}
        self._pid = 0

    def add(self, place: int, model: str, identity: ScoringIdentity | None) -> None:
        """Record what this process has loaded; None if the version of the model is not known."""
        digest = identity.digest if identity else ""
        with self._lock:
            if self._pid != os.getpid():
                self._own, self._pid = {}, os.getpid()
            if self._own.get(model) == digest:
                return
            self._own[model] = digest
            self._write(place)

    def forget(self, place: int, model: str) -> None:
        """Record that this process no longer has a model."""
        with self._lock:
            if self._pid == os.getpid() and self._own.pop(model, None) is not None:
                self._write(place)

    def _write(self, place: int) -> None:
        while len(text := json.dumps([self._pid, self._own]).encode()) >= BYTES:
            del self._own[next(iter(self._own))]  # producers then ask in another way
        place %= PLACES
        start = place * BYTES
        self._memory[start : start + len(text) + 1] = text + b"\0"
        self._used[place] = 1

    def of(self, pids: Collection[int]) -> dict[str, list[str]]:
        """Return the digests by model in these processes; "" is an unknown one."""
        found: dict[str, set[str]] = {}
        for place in (place for place in range(PLACES) if self._used[place]):
            pid, loaded = self._read(place)
            for model, digest in loaded.items() if pid in pids else ():
                found.setdefault(model, set()).add(digest)
        return {model: sorted(digests) for model, digests in found.items()}

    def _read(self, place: int) -> tuple[int, Mapping[str, str]]:
        text = self._memory[place * BYTES : (place + 1) * BYTES].partition(b"\0")[0]
        try:
            pid, loaded = json.loads(text)
        except ValueError:  # a process is writing
            return 0, {}
        return pid, loaded
