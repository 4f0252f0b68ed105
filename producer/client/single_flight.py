"""Share one answer among threads that make the same call at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from threading import Lock
from typing import Generic, TypeVar

from contract.errors import RedisUnavailable

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Makes one call for several simultaneous callers, and returns its answer to all of them.

    Later callers within `fresh_s` seconds receive the same answer or error.
    """

    def __init__(self, what: str, fresh_s: float = 0.0) -> None:
        self._what = what
        self._fresh_s = fresh_s
        self._lock = Lock()
        self._answers: dict[Hashable, _Answer[T]] = {}

    def get(self, key: Hashable, ask: Callable[[], T], wait_s: float) -> T:
        """Return the result of `ask`, called here or already running in another thread.

        Calls with the same `key` share an answer. Raises the errors of `ask`, or `RedisUnavailable`
        if the other thread has no answer within `wait_s` seconds.
        """
        give_up_at = time.monotonic() + wait_s
        while True:
            answer, mine = self._join(key)
            if mine:
                return self._ask(ask, answer)
            wait([answer.future], max(0.0, give_up_at - time.monotonic()))
            if not answer.future.done():
                raise RedisUnavailable(
                    f"{self._what}: another thread of this process has asked, but received no"
                    f" answer within {wait_s:g} s"
                )
            if not isinstance(answer.future.exception(), _Interrupted):
                return answer.future.result()

    def _join(self, key: Hashable) -> tuple[_Answer[T], bool]:
        """Return a pending or still fresh answer and False, or a new one and True."""
        now = time.monotonic()
        with self._lock:
            for old in [each for each, answer in self._answers.items() if answer.stale_at <= now]:
                del self._answers[old]
            if key in self._answers:
                return self._answers[key], False
            made: _Answer[T] = _Answer()
            self._answers[key] = made
            return made, True

    def _ask(self, ask: Callable[[], T], answer: _Answer[T]) -> T:
        fresh_s = self._fresh_s
        try:
            answer.future.set_result(ask())
        except Exception as error:  # noqa: BLE001
            answer.future.set_exception(error)
        except BaseException:
            fresh_s = 0.0
            answer.future.set_exception(_Interrupted())
            raise
        finally:
            with self._lock:
                answer.stale_at = time.monotonic() + fresh_s
        return answer.future.result()


class _Interrupted(Exception):
    """The calling thread was interrupted without an answer; the others must call again."""


class _Answer(Generic[T]):
    """A pending or available answer."""

    def __init__(self) -> None:
        self.future: Future[T] = Future()
        #: When the answer expires, by the monotonic clock.
        self.stale_at = float("inf")
