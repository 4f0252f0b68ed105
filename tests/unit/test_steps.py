"""A procedure is written once, and both clients run it with the same steps, errors and result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from contract.errors import JobNotFound, RedisUnavailable
from producer.client import steps
from producer.client.steps import Call, Procedure, Step


def perform(step: Step) -> Any:
    """Perform a step like the blocking client."""
    assert isinstance(step, Call)
    return step.make()


def run_blocking(procedure: Procedure[Any]) -> Any:
    return steps.run(procedure, perform)


def run_with_asyncio(procedure: Procedure[Any]) -> Any:
    async def perform_async(step: Step) -> Any:
        await asyncio.sleep(0)
        return perform(step)

    return asyncio.run(steps.run_async(procedure, perform_async))


both = pytest.mark.parametrize("run", [run_blocking, run_with_asyncio])


def raise_(error: BaseException) -> None:
    raise error


@both
def test_each_step_returns_its_reply_and_the_procedure_its_result(
    run: Callable[[Procedure[Any]], Any],
) -> None:
    def procedure() -> Procedure[str]:
        one = yield from steps.call(int, "1")
        two = yield from steps.call(sum, [one, one])
        return f"{one} and {two}"

    assert run(procedure()) == "1 and 2"


@both
def test_an_error_of_a_step_is_raised_where_the_procedure_stands_and_can_be_handled(
    run: Callable[[Procedure[Any]], Any],
) -> None:
    def procedure() -> Procedure[str]:
        try:
            yield from steps.call(raise_, JobNotFound("gone"))
        except JobNotFound as error:
            reply = yield from steps.call(str, error)
            return f"handled: {reply}"
        return "not reached"

    assert run(procedure()) == "handled: gone"


@both
def test_an_error_that_the_procedure_does_not_handle_is_that_of_the_caller(
    run: Callable[[Procedure[Any]], Any],
) -> None:
    error = RedisUnavailable("away")

    def procedure() -> Procedure[None]:
        yield from steps.call(int, "1")
        yield from steps.call(raise_, error)

    with pytest.raises(RedisUnavailable) as raised:
        run(procedure())
    assert raised.value is error


@both
def test_an_interruption_runs_what_the_procedure_has_to_clean_up(
    run: Callable[[Procedure[Any]], Any],
) -> None:
    cleaned_up: list[str] = []

    def procedure() -> Procedure[None]:
        try:
            yield from steps.call(raise_, KeyboardInterrupt())
        except BaseException:
            yield from steps.call(cleaned_up.append, "withdrawn")
            raise

    with pytest.raises(KeyboardInterrupt):
        run(procedure())
    assert cleaned_up == ["withdrawn"]


def test_a_task_that_is_cancelled_is_cancelled_where_the_procedure_stands() -> None:
    seen = []

    def procedure() -> Procedure[None]:
        try:
            yield from steps.call(print)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def never(_: Step) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        task = asyncio.create_task(steps.run_async(procedure(), never))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert seen == ["cancelled"]
