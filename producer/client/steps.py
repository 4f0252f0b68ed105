"""Procedures: what both clients do, written once, as generators that neither block nor await.

A procedure yields steps, and is sent what each of them returns, or has thrown into it what the step
raises. The blocking client performs a step by making it; the asyncio client awaits operations on
Redis, and makes calls that block or compute in threads.
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
    """A call that blocks or computes for a while."""

    make: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for the first of some jobs to end: see `Watch.any_of`."""

    job_ids: Collection[str]
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Uninterrupted:
    """A procedure that comes to its end also if its caller is cancelled meanwhile."""

    procedure: Procedure[Any]


Step: TypeAlias = Operation[Any] | Call | Wait | Uninterrupted
Procedure: TypeAlias = Generator[Step, Any, T]


def execute(operation: Operation[T]) -> Procedure[T]:
    """Run an operation on Redis; return what it reads."""
    reply: T = yield operation
    return reply


def call(function: Callable[..., T], *arguments: Any) -> Procedure[T]:
    """Make a call that blocks or computes for a while; return what it returns."""
    returned: T = yield Call(partial(function, *arguments))
    return returned


def wait(
    job_ids: Collection[str], timeout_s: float | None
) -> Procedure[dict[str, jobs.OutcomeOrError]]:
    """Wait for the first of some jobs to end; return the outcomes, none after the timeout."""
    ended: dict[str, jobs.OutcomeOrError] = yield Wait(job_ids, timeout_s)
    return ended


def uninterrupted(procedure: Procedure[T]) -> Procedure[T]:
    """Run a procedure to its end, also if the caller is cancelled meanwhile."""
    returned: T = yield Uninterrupted(procedure)
    return returned


def run(procedure: Procedure[T], perform: Callable[[Step], Any]) -> T:
    """Run a procedure whose steps `perform` makes; return what it returns."""
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
    """Run a procedure whose steps `perform` awaits; return what it returns."""
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
