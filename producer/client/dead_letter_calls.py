"""The methods of both clients that list, retry and drop dead letters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from contract import jobs
from contract.store import dead_letters as stored_dead_letters
from contract.store.operation import Schema
from producer.client import dead_letters
from producer.client.publishing import Publisher
from producer.client.steps import Procedure, execute, uninterrupted

T = TypeVar("T")


class DeadLetterCalls(ABC):
    """The methods of the blocking client."""

    _schema: Schema
    _publisher: Publisher

    @abstractmethod
    def _run(self, procedure: Procedure[T]) -> T:
        """Run a procedure; return its result."""

    def dead_letters(self, at_most: int | None = 1_000) -> list[jobs.DeadLetter]:
        """Return failed jobs that can be retried, newest first, up to `at_most` (None: all).

        A job whose record cannot be read has the code `unreadable`. Raises `RedisUnavailable`.
        """
        return self._run(dead_letters.newest(self._schema, at_most))

    def each_dead_letter(self) -> Iterator[jobs.DeadLetter]:
        """Yield all dead letters, newest first; they may be retried or dropped meanwhile.

        Jobs that fail during the iteration are not included. Raises `RedisUnavailable`.
        """
        page = dead_letters.FIRST_PAGE
        while True:
            page, letters = self._run(dead_letters.next_page(self._schema, page))
            if not page.ids:
                return
            yield from letters

    def count_dead_letters(self) -> int:
        """Return the number of dead letters. Raises `RedisUnavailable`."""
        return self._run(execute(stored_dead_letters.count(self._schema)))

    def dead_letter(self, job_id: str) -> jobs.DeadLetter:
        """Return one dead letter. Raises `JobNotFound` or `RedisUnavailable`."""
        return self._run(dead_letters.find(self._schema, job_id))

    def retry(self, job_id: str, *, model: str | None = None) -> None:
        """Queue a dead letter again as a new job with the same id, optionally with another model.

        Its failure is removed. Raises `JobNotFound`, `PayloadMissing`, `PayloadInvalid`,
        `InvalidInput`, `Overloaded` or `RedisUnavailable`. After an error, the job is still a dead
        letter, unless its id is in the error's `submitted`: then it is queued, and a worker's sweep
        sends its message.
        """
        self._run(dead_letters.retry(self._schema, self._publisher, job_id, model))

    def drop(self, job_id: str) -> None:
        """Drop a dead letter and its payload; the job stays failed.

        Raises `JobNotFound` or `RedisUnavailable`.
        """
        self._run(dead_letters.drop(self._schema, job_id))


class AsyncDeadLetterCalls(ABC):
    """The methods of the asyncio client."""

    _schema: Schema
    _publisher: Publisher

    @abstractmethod
    def _run(self, procedure: Procedure[T]) -> Coroutine[Any, Any, T]:
        """Run a procedure; return its result."""

    async def dead_letters(self, at_most: int | None = 1_000) -> list[jobs.DeadLetter]:
        """Return failed jobs that can be retried, newest first, up to `at_most` (None: all).

        A job whose record cannot be read has the code `unreadable`. Raises `RedisUnavailable`.
        """
        return await self._run(dead_letters.newest(self._schema, at_most))

    async def each_dead_letter(self) -> AsyncIterator[jobs.DeadLetter]:
        """Yield all dead letters, newest first; they may be retried or dropped meanwhile.

        Jobs that fail during the iteration are not included. Raises `RedisUnavailable`.
        """
        page = dead_letters.FIRST_PAGE
        while True:
            page, letters = await self._run(dead_letters.next_page(self._schema, page))
            if not page.ids:
                return
            for letter in letters:
                yield letter

    async def count_dead_letters(self) -> int:
        """Return the number of dead letters. Raises `RedisUnavailable`."""
        return await self._run(execute(stored_dead_letters.count(self._schema)))

    async def dead_letter(self, job_id: str) -> jobs.DeadLetter:
        """Return one dead letter. Raises `JobNotFound` or `RedisUnavailable`."""
        return await self._run(dead_letters.find(self._schema, job_id))

    async def retry(self, job_id: str, *, model: str | None = None) -> None:
        """Queue a dead letter again as a new job with the same id, optionally with another model.

        Its failure is removed. Raises `JobNotFound`, `PayloadMissing`, `PayloadInvalid`,
        `InvalidInput`, `Overloaded` or `RedisUnavailable`. After an error, the job is still a dead
        letter, unless its id is in the error's `submitted`: then it is queued, and a worker's sweep
        sends its message.
        Once started, a retry finishes even if the calling task is cancelled.
        """
        retrying = dead_letters.retry(self._schema, self._publisher, job_id, model)
        await self._run(uninterrupted(retrying))

    async def drop(self, job_id: str) -> None:
        """Drop a dead letter and its payload; the job stays failed.

        Raises `JobNotFound` or `RedisUnavailable`.
        """
        await self._run(dead_letters.drop(self._schema, job_id))
