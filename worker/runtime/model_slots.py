"""Bound the number of models in a process: those that jobs have used least recently are dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

#: How often a job that waits for a place checks whether it still counts.
POLL_S = 0.5


class ModelSlots:
    """Places for `number` models, in addition to the `permanent` ones, which are never dropped.

    A model that is in use is not dropped either. `drop` is called with a model, and with the one
    that it makes room for. `is_loaded` returns whether a model takes memory.
    """

    def __init__(
        self,
        number: int,
        permanent: Collection[str],
        drop: Callable[[str, str], object],
        is_loaded: Callable[[str], bool],
    ) -> None:
        self._number = number
        self._permanent = permanent
        self._drop = drop
        self._is_loaded = is_loaded
        #: The models that have a place, least recently used first.
        self._models: list[str] = []
        #: The models in use by the thread that uses each.
        self._used: dict[int, str] = {}
        self._changed = threading.Condition()

    @contextmanager
    def using(self, model: str, check: Callable[[], object]) -> Iterator[None]:
        """Give a model a place that it keeps until the end of the block.

        While the threads of a pool use all places for other models, it waits, and calls `check`
        from time to time, which may raise an error to give up.
        """
        if model in self._permanent:
            yield
            return
        thread = threading.get_ident()
        try:
            with self._changed:
                while not self._has_place(model):
                    self._changed.wait(POLL_S)
                    check()
                self._models.append(model)
                self._used[thread] = model
            yield
        finally:
            with self._changed:
                self._used.pop(thread, None)
                # A model that could not be loaded keeps no other out.
                if model in self._unused() and not self._is_loaded(model):
                    self._models.remove(model)
                self._changed.notify_all()

    def _has_place(self, model: str) -> bool:
        """Return whether a model may be added, after another was dropped if need be."""
        if model in self._models:
            self._models.remove(model)
            return True
        if len(self._models) < self._number:
            return True
        if not (unused := self._unused()):
            return False
        self._models.remove(unused[0])
        self._drop(unused[0], model)
        return True

    def _unused(self) -> list[str]:
        """Return the models that are not in use, least recently used first."""
        return [each for each in self._models if each not in self._used.values()]
