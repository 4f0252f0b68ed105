"""Both clients have the same methods with the same options, and document what they do."""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import Callable
from typing import Any

import pytest

from contract.settings import Settings
from producer.client import grouping, options, preparing
from producer.client.async_batch import AsyncBatch
from producer.client.async_watch import AsyncWatch
from producer.client.asynchronous import AsyncRerankClient
from producer.client.batch import Batch
from producer.client.blocking import RerankClient
from producer.client.watch import Watch

#: The names and return types in which the asyncio client differs.
ASYNC_NAMES = {"close": "aclose"}
#: `T` is the type of the outcomes of an `OutcomeWatch`.
ASYNC_TYPES = {
    "Watch": "AsyncWatch",
    "Iterator[": "AsyncIterator[",
    "str, T]": "str, jobs.OutcomeOrError]",
}
#: Methods that return something to be awaited, and are not awaited themselves.
NOT_AWAITED = {"watch", "each_dead_letter", "as_completed", "results"}

PAIRS = [(RerankClient, AsyncRerankClient), (Watch, AsyncWatch), (Batch, AsyncBatch)]


def verbs(kind: type) -> dict[str, Callable[..., Any]]:
    """Return the public methods of a class, by name."""
    methods = inspect.getmembers(kind, inspect.isfunction)
    return {name: each for name, each in methods if not name.startswith("_")}


def as_asyncio(annotation: str) -> str:
    if annotation == "Batch":
        return "AsyncBatch"
    for blocking, asynchronous in ASYNC_TYPES.items():
        annotation = annotation.replace(blocking, asynchronous)
    return annotation


BOTH = [
    pytest.param(each, verbs(ours).get(ASYNC_NAMES.get(name, name)), id=f"{kind.__name__}.{name}")
    for kind, ours in PAIRS
    for name, each in verbs(kind).items()
]


def test_the_asyncio_client_has_every_verb_of_the_blocking_one_and_no_other() -> None:
    for blocking, asynchronous in PAIRS:
        expected = {ASYNC_NAMES.get(name, name) for name in verbs(blocking)}
        assert set(verbs(asynchronous)) == expected


@pytest.mark.parametrize(("blocking", "asynchronous"), BOTH)
def test_both_take_the_same_and_return_the_same_up_to_awaiting(
    blocking: Callable[..., Any], asynchronous: Callable[..., Any]
) -> None:
    one, other = inspect.signature(blocking), inspect.signature(asynchronous)
    assert one.parameters == other.parameters
    assert as_asyncio(one.return_annotation) == other.return_annotation
    assert inspect.iscoroutinefunction(asynchronous) == (blocking.__name__ not in NOT_AWAITED)


def test_both_say_the_same_of_the_state_of_a_job_and_of_the_service() -> None:
    one, other = (
        [inspect.signature(each) for each in typing.get_overloads(kind.status)]
        for kind in (RerankClient, AsyncRerankClient)
    )
    assert len(one) == 2
    assert one == other


@pytest.mark.parametrize("kind", [each for pair in PAIRS for each in pair])
def test_each_verb_says_itself_what_it_does(kind: type) -> None:
    for name, verb in verbs(kind).items():
        assert verb.__doc__, name
        assert "See `" not in verb.__doc__, name


@pytest.mark.parametrize(
    ("function", "typed"),
    [
        (preparing.prepare_query, options.SubmitOptions),
        (grouping.prepare_requests, options.SubmitManyOptions),
    ],
)
def test_the_options_that_are_typed_are_those_that_are_used(
    function: Callable[..., Any], typed: type
) -> None:
    types = typing.get_type_hints(function)
    used = {
        name: types[name]
        for name, each in inspect.signature(function).parameters.items()
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert typing.get_type_hints(typed) == used


@pytest.mark.parametrize("kind", [RerankClient, AsyncRerankClient])
@pytest.mark.parametrize("verb", ["submit", "submit_many", "rerank"])
def test_help_shows_each_option_with_its_default_and_the_class_describes_it(
    kind: type, verb: str
) -> None:
    shown = inspect.signature(verbs(kind)[verb]).parameters
    optional = [each for each in shown.values() if each.kind is inspect.Parameter.KEYWORD_ONLY]
    assert len(optional) >= 4
    for each in optional:
        assert each.default is not inspect.Parameter.empty
        described = kind.__doc__ if each.name != "timeout" else verbs(kind)[verb].__doc__
        assert f"`{each.name}`" in (described or "")
    assert not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in shown.values())


@pytest.mark.parametrize("verb", ["submit", "submit_many", "rerank"])
def test_an_option_that_is_none_is_a_type_error_that_names_it(verb: str) -> None:
    settings: Settings = Settings.load(redis_url="redis://127.0.0.1:1/0")
    arguments: tuple[Any, ...] = ([],) if verb == "submit_many" else ("a query", ["a document"])
    error = r"unexpected keyword argument 'topk'"

    async def call() -> None:
        async with AsyncRerankClient(settings) as client:
            await getattr(client, verb)(*arguments, topk=3)

    with RerankClient(settings) as client, pytest.raises(TypeError, match=error):
        getattr(client, verb)(*arguments, topk=3)
    with pytest.raises(TypeError, match=error):
        asyncio.run(call())
