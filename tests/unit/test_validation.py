"""Errors of pydantic reach a user in this project's words, with their place."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic_core.core_schema import ErrorType

from contract import jobs, limits, validation
from contract.errors import InvalidInput
from contract.settings import Settings
from producer.client import preparing

DOCUMENT = {"id": "d1", "text": "one"}
REQUEST = {"query": "q", "candidates": [DOCUMENT]}
#: Every name that pydantic puts into the context of an error for which `describing` has a text.
CONTEXT = dict.fromkeys(
    (
        *("min_length", "max_length", "actual_length", "pattern", "gt", "ge", "lt", "le"),
        *("expected", "error"),
    ),
    1,
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"requests": []}, "requests: must not be empty; a job needs at least one request"),
        (
            {"requests": [{"query": "q", "candidates": []}]},
            "requests[0].candidates: must not be empty; a request needs at least one candidate",
        ),
        ({"requests": [{"candidates": [DOCUMENT]}]}, "requests[0].query: is required"),
        ({"requests": ["q"]}, "requests[0]: must be an object, not a string"),
        ({"requests": {"q": 1}}, "requests: must be a list, not an object"),
        ({"requests": [REQUEST | {"top_k": 0}]}, "requests[0].top_k: must be at least 1"),
        ({"requests": [REQUEST | {"top_k": 1.5}]}, "requests[0].top_k: must be a whole number"),
        ({"requests": [REQUEST | {"query": 5}]}, "query: must be a string, not a number"),
        (
            {"requests": [REQUEST | {"candidates": [DOCUMENT | {"text": None}]}]},
            "requests[0].candidates[0].text: must be a string, not null",
        ),
        (
            {"requests": [REQUEST | {"candidates": [DOCUMENT | {"score": float("nan")}]}]},
            "candidates[0].score: must be a finite number, not NaN or infinity",
        ),
        ({"id": "a b"}, "id: a job id must have 1 to 128 characters"),
        ({"allow_downgrade": "maybe"}, "allow_downgrade: must be true or false"),
        ({"surprise": 1}, "surprise: unknown field"),
    ],
)
def test_a_fault_is_named_with_its_place(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        jobs.parse(jobs.Job, {"id": "j", "requests": [REQUEST], **changes})
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", get_args(ErrorType))
def test_no_phrase_of_pydantic_reaches_a_user(kind: str) -> None:
    fault = {"type": kind, "loc": ("field",), "msg": "Input should be ...", "ctx": CONTEXT}
    said = validation.reason(fault | {"input": object()})
    assert said
    for phrase in ("Input should", "should have", "Field required", "Value error", "{"):
        assert phrase not in said


def test_a_python_caller_reads_the_same_words() -> None:
    with pytest.raises(InvalidInput, match=r"^candidates: must not be empty; a request needs"):
        preparing.request("q", [], top_k=None)
    with pytest.raises(InvalidInput, match=r"^document 0: text: must be a string, not a number"):
        preparing.request("q", [{"text": 5}], top_k=None)


def test_a_setting_is_named_in_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKQ_MAX_PAIRS_PER_JOB", "many")
    with pytest.raises(InvalidInput, match="RERANKQ_MAX_PAIRS_PER_JOB: must be a whole number"):
        Settings.load()


def test_a_message_stays_short_whatever_was_given() -> None:
    deep: dict[str, object] = {}
    for _ in range(300):
        deep = {"key": deep}
    with pytest.raises(InvalidInput) as nested:
        preparing.request("q", [{"text": "a", "metadata": deep}], top_k=None)
    with pytest.raises(InvalidInput, match=r"^model 'xxx") as named:
        limits.check_model("x" * 100_000, Settings())
    assert len(str(nested.value)) < 300
    assert len(str(named.value)) < 500


def test_an_empty_id_is_called_empty() -> None:
    with pytest.raises(InvalidInput, match=r"^document 0: id: must not be empty$"):
        preparing.request("q", [{"id": "", "text": "a"}], top_k=None)
