"""Run the procedures of the asyncio client in one event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar

from contract.errors import ClientUnusable, RedisUnavailable
from contract.store import operation
from contract.store.asynchronous import AsyncJobStore
from contract.store.connection import open_async_client
from contract.store.operation import Operation, Schema
from contract.store.redis_errors import closed_error
from producer.client import steps
from producer.client.async_watch import AsyncBatchWatch, AsyncWatch
from producer.client.attempts import Attempts
from producer.client.publishing import Publisher
from producer.client.resumable_step import ResumableStep
from producer.client.steps import Call, Heard, Procedure, Step, Uninterrupted, Wait
from producer.client.subscription import OutcomeSubscription
from producer.client.worker_inspector import WorkerReadiness

T = TypeVar("T")
#: A method of the publisher that asks workers, and its arguments: seconds, and how many answers.
Question: TypeAlias = tuple[Callable[[float, int | None], Any], float, int | None]

#: The number of threads for blocking calls and computation: publishing, packing, unpacking. It is
#: small, because threads that compute compete with the event loop for the interpreter.
THREADS = 2


class AsyncRunner:
    """Runs procedures for the tasks of one event loop in one process: those of its first use."""

    def __init__(self, schema: Schema, publisher: Publisher) -> None:
        self._schema = schema
        self._publisher = publisher
        self._redis = open_async_client(schema.settings)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="rerankq")
        #: A separate thread, because asking the workers takes a second and would delay other calls.
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="rerankq-ask")
        self._questions: dict[Question, asyncio.Task[Any]] = {}
        self._store = AsyncJobStore(self._redis, schema, self._threads)
        self._subscription = OutcomeSubscription(
            self._redis, self._execute, schema, self.check_usable
        )
        self._background: set[asyncio.Task[Any]] = set()
        self._owner: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._closed = False

    def check_usable(self) -> None:
        """Raise `ClientUnusable` if it is closed, or was first used in another loop or process."""
        if self._closed:
            raise closed_error()
        caller = _calling_owner()
        self._owner = self._owner or caller
        if self._owner != caller:
            other = "process" if self._owner[1] != caller[1] else "event loop"
            raise ClientUnusable(
                f"this client was first used in another {other}; create and close a client in each"
                f" {other}"
            )

    def run(
        self, procedure: Procedure[T], watch: AsyncWatch | AsyncBatchWatch | None = None
    ) -> Coroutine[Any, Any, T]:
        """Run a procedure, with `watch` if it waits for jobs, and return its result."""
        return steps.run_async(procedure, partial(self._perform, watch))

    async def in_thread(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a function that blocks or computes, in a thread."""
        return await self._in(self._threads, partial(function, *arguments, **options))

    def in_background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that `aclose` waits for, even if its caller no longer does."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_done)
        return task

    def watch(self) -> AsyncWatch:
        """Return a watch on the one subscription."""
        return AsyncWatch(self._subscription)

    def batch_watch(self, batch_id: str) -> AsyncBatchWatch:
        """Return a watch on the jobs of a batch, on the one subscription."""
        return AsyncBatchWatch(self._subscription, batch_id, self._schema.settings)

    async def workers(self, timeout_s: float, at_most: int | None) -> tuple[str, ...]:
        """Ask for the workers' names; simultaneous identical calls share one answer."""
        names: tuple[str, ...] = await self._answer((self._publisher.workers, timeout_s, at_most))
        return names

    async def readiness(self, timeout_s: float, at_most: int | None) -> dict[str, WorkerReadiness]:
        """Ask for the workers' readiness; simultaneous identical calls share one answer."""
        question = self._publisher.readiness, timeout_s, at_most
        found: dict[str, WorkerReadiness] = await self._answer(question)
        return found

    async def aclose(self) -> None:
        """End waits with `ClientUnusable`, let submissions finish, and disconnect."""
        self._closed = True
        if self._owner not in (None, _calling_owner()):
            self._shut_down()
            return
        try:
            await self._subscription.aclose(closed_error())
            while self._background:  # submissions finish, and withdraw their jobs if needed
                await asyncio.gather(*self._background, return_exceptions=True)
        finally:
            self._shut_down()
            await asyncio.gather(*self._questions.values(), return_exceptions=True)
            for pool in (self._threads, self._asking):
                await asyncio.to_thread(pool.shutdown)
            await self._store.aclose()

    def _shut_down(self) -> None:
        for pool in (self._threads, self._asking):
            pool.shutdown(wait=False, cancel_futures=True)
        self._publisher.close()

    async def _answer(self, key: Question) -> Any:
        question = self._questions.get(key)
        if question is None:
            question = asyncio.create_task(self._ask(key))
            self._questions[key] = question
            question.add_done_callback(lambda _: self._questions.pop(key))
        return await asyncio.shield(question)

    async def _ask(self, question: Question) -> Any:
        await self._execute(operation.ping())  # fails sooner than Celery if Redis is away
        ask, timeout_s, at_most = question
        return await self._in(self._asking, partial(ask, timeout_s, at_most))

    async def _perform(self, watch: AsyncWatch | AsyncBatchWatch | None, step: Step) -> Any:
        if isinstance(step, Uninterrupted):
            return await asyncio.shield(self.in_background(self.run(step.procedure)))
        attempts, resumable = Attempts(self._schema.settings), ResumableStep(step)
        while True:
            try:
                return await self._attempt(watch, resumable.remaining())
            except RedisUnavailable as error:
                await asyncio.sleep(attempts.pause_after(error))
            self.check_usable()

    def _attempt(self, watch: AsyncWatch | AsyncBatchWatch | None, step: Step) -> Awaitable[Any]:
        match step:
            case Operation():
                return self._execute(step)
            case Call():
                return self._in(self._threads, step.make)
            case Wait() if isinstance(watch, AsyncWatch):
                return watch.any_of(step.job_ids, step.timeout_s)
            case Heard() if isinstance(watch, AsyncBatchWatch):
                return watch.heard(step.timeout_s)
        raise TypeError(f"{step!r} needs a watch")

    async def _execute(self, operation: Operation[T]) -> T:
        with self._closing_explained():
            return await self._store.execute(operation)

    async def _in(self, threads: Executor, call: Callable[[], T]) -> T:
        with self._closing_explained():
            return await asyncio.get_running_loop().run_in_executor(threads, call)

    def _background_done(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved, in case no caller waits any more

    @contextmanager
    def _closing_explained(self) -> Iterator[None]:
        """Raise `ClientUnusable` for the errors of a call whose client is closed before it ends."""
        try:
            yield
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._closed and task and not task.cancelling():
                raise closed_error() from error
            raise
        except RuntimeError as error:  # raised by an executor that was shut down
            if self._closed:
                raise closed_error() from error
            raise


def _calling_owner() -> tuple[asyncio.AbstractEventLoop, int]:
    return asyncio.get_running_loop(), os.getpid()
