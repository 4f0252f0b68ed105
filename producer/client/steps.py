"""Define procedures: the logic of both clients, as generators that neither block nor await.

A procedure yields steps, and receives the result of each step, or the exception that it raised. The
blocking client runs a step directly. The asyncio client awaits operations on Redis, and runs calls
that block or compute in threads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from contract import jobs
from contract.store.operation import Operation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """A call that blocks or takes computing time."""

    make: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for the first of some jobs to end: see `Watch.any_of`."""

    job_ids: Collection[str]
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Heard:
    """A wait for notifications about the jobs of a batch: see `BatchWatch.heard`."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Uninterrupted:
    """A procedure that finishes even if its caller is cancelled."""

    procedure: Procedure[Any]


Step: TypeAlias = Operation[Any] | Call | Wait | Heard | Uninterrupted
Procedure: TypeAlias = Generator[Step, Any, T]


def execute(operation: Operation[T]) -> Procedure[T]:
    """Run an operation on Redis; return its result."""
    reply: T = yield operation
    return reply


def call(function: Callable[..., T], *arguments: Any) -> Procedure[T]:
    """Make a call that blocks or takes computing time; return its result."""
    returned: T = yield Call(partial(function, *arguments))
    return returned


def wait(
    job_ids: Collection[str], timeout_s: float | None
) -> Procedure[dict[str, jobs.OutcomeOrError]]:
    """Wait for the first of some jobs to end; return the outcomes, none after the timeout."""
    ended: dict[str, jobs.OutcomeOrError] = yield Wait(job_ids, timeout_s)
    return ended


def heard(timeout_s: float) -> Procedure[list[str]]:
    """Wait for jobs of a batch to end; return their ids, none after the timeout."""
    job_ids: list[str] = yield Heard(timeout_s)
    return job_ids


def uninterrupted(procedure: Procedure[T]) -> Procedure[T]:
    """Run a procedure to its end, even if the caller is cancelled."""
    returned: T = yield Uninterrupted(procedure)
    return returned


def run(procedure: Procedure[T], perform: Callable[[Step], Any]) -> T:
    """Run a procedure, whose steps `perform` runs; return its result."""
    reply: Any = None
    error: BaseException | None = None
    try:
        while True:
            step = procedure.send(reply) if error is None else procedure.throw(error)
            reply = error = None
            try:
                reply = perform(step)
            except BaseException as raised:  # noqa: BLE001  # the procedure handles or raises it
                error = raised
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        error = None  # no reference cycle of an error and the frames in its traceback


async def run_async(procedure: Procedure[T], perform: Callable[[Step], Awaitable[Any]]) -> T:
    """Run a procedure, whose steps `perform` awaits; return its result."""
    reply: Any = None
    error: BaseException | None = None
    try:
        while True:
            step = procedure.send(reply) if error is None else procedure.throw(error)
            reply = error = None
            try:
                reply = await perform(step)
            except BaseException as raised:  # noqa: BLE001  # the procedure handles or raises it
                error = raised
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        error = None  # no reference cycle of an error and the frames in its traceback
