"""A wrong argument of a client's method raises `InvalidInput` that names it; nothing is sent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from contract.errors import InvalidInput
from contract.settings import Settings
from producer.client import arguments
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.client.grouping import prepare_requests
from producer.client.watch import deadline_after

#: Nothing listens there: a call that reached Redis would raise `RedisUnavailable`.
NO_REDIS = Settings.load(redis_url="redis://127.0.0.1:1/0")
FRAME = pd.DataFrame({"id": ["1", "2"], "text": ["a", "b"]})
REQUESTS = [{"query": "q", "candidates": ["a", "b"]}, {"query": "r", "candidates": ["c", "d"]}]

#: A call of a client, and what its message says.
WRONG: list[tuple[Callable[[Any], Any], str]] = [
    (lambda client: client.rerank("q", ["a"], timeout="5"), "timeout must .* not '5'"),
    (lambda client: client.rerank("q", ["a"], timeout=math.nan), "timeout must .* not nan"),
    (lambda client: client.rerank("q", ["a"], timeout=10**400), "timeout must .* not 1000"),
    (lambda client: client.submit("q", ["a"], priority=-1), "priority must be .* not -1"),
    (lambda client: client.submit("q", ["a"], priority=10), "priority must be .* not 10"),
    (lambda client: client.submit("q", ["a"], priority=1.5), r"priority must be .* not 1\.5"),
    (lambda client: client.submit("q", ["a"], priority=None), "priority must be .* not None"),
    (lambda client: client.submit("q", ["a"], group=5), "group must have"),
    (lambda client: client.submit("q", ["a"], trace="00-1"), "trace must be .* not a string"),
    (lambda client: client.submit("q", None), "documents must be a list, not null"),
    (lambda client: client.submit("q", 5), "documents must be a list, not a number"),
    (lambda client: client.submit("q", "a text"), "documents must be a list, not a single one"),
    (lambda client: client.submit("q", {"text": "a"}), "documents must be .* not a single one"),
    (
        lambda client: client.submit("q", FRAME),
        "documents .* not a table .*to_dict",
    ),
    (lambda client: client.submit("q", [b"a"]), "document 0: must be a string or an object"),
    (lambda client: client.submit("q", ["a", None]), "document 1: must be .* not null"),
    (lambda client: client.submit_many(None), "requests must be a list, not null"),
    (lambda client: client.submit_many(FRAME), "requests must be a list, not a table"),
    (lambda client: client.submit_many(REQUESTS[0]), "requests must be .* not a single one"),
    (
        lambda client: client.submit_many([{"query": "q", "candidates": "a"}]),
        "request 0: candidates must be a list, not a single one",
    ),
    (lambda client: client.submit_many(REQUESTS, pairs_per_job=0), "pairs_per_job must .* not 0"),
    (lambda client: client.submit_many(REQUESTS, pairs_per_job=-2), "pairs_per_job must .* not -2"),
    (lambda client: client.submit_many(REQUESTS, pairs_per_job=1.5), "pairs_per_job .* not 1.5"),
    (lambda client: client.submit_many(REQUESTS, pairs_per_job="2"), "pairs_per_job .* not '2'"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_a_wrong_argument_is_named_before_anything_is_sent(
    call: Callable[[Any], Any], message: str
) -> None:
    async def with_asyncio() -> None:
        async with AsyncRerankClient(NO_REDIS) as client:
            await call(client)

    with RerankClient(NO_REDIS) as client, pytest.raises(InvalidInput, match=message):
        call(client)
    with pytest.raises(InvalidInput, match=message):
        asyncio.run(with_asyncio())


@pytest.mark.parametrize("client", [RerankClient, AsyncRerankClient])
def test_a_client_that_is_given_a_url_as_settings_says_how_to_pass_it(client: Any) -> None:
    with pytest.raises(InvalidInput, match="redis_url=URL"):
        client("redis://127.0.0.1:1/0")


@pytest.mark.parametrize("candidates", [np.array(["a", "b"]), FRAME["text"], iter(["a", "b"])])
def test_the_candidates_of_a_request_may_be_what_the_documents_of_a_query_may_be(
    candidates: Any,
) -> None:
    requests = [{"query": "q", "candidates": candidates}]
    (made,) = prepare_requests(requests, NO_REDIS).jobs
    assert [each.text for each in made.requests[0].candidates] == ["a", "b"]


def test_numbers_of_numpy_are_numbers() -> None:
    float32: Any = np.float32(1.0)
    assert type(arguments.check_priority(np.int64(3))) is int
    assert arguments.check_pairs_per_job(np.int64(3)) == 3
    assert deadline_after(float32) > deadline_after(0)


def test_no_timeout_is_no_limit() -> None:
    assert deadline_after(None) == deadline_after(math.inf) == math.inf
