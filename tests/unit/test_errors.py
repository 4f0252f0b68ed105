"""The drawn tree of errors is that of the classes, and each error can be sent between processes."""

from __future__ import annotations

import builtins
import pickle
import re

import pytest

from contract import errors
from contract.jobs import CANCELLED, Failure, SplitJob

KINDS = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.RerankError)
]
FAILURE = Failure(
    job_id="j1", code="out_of_memory", message="it did not fit", retryable=True, attempts=3
)


SPLIT = SplitJob(job_id="j1", bounds=(0, 2, 4), top_k=None)


def make(kind: type[errors.RerankError], message: str) -> errors.RerankError:
    if issubclass(kind, errors.JobFailed):
        return kind(FAILURE)
    return kind(SPLIT) if issubclass(kind, errors.JobSplit) else kind(message)


def drawn() -> list[tuple[str, str | None, str]]:
    """Return the name, parent and remark of each line of the tree."""
    path: list[str] = []
    lines = []
    for indent, name, remark in re.findall(
        r"^( *)[*x+-] (\w+) +(.*)$", errors.__doc__ or "", flags=re.MULTILINE
    ):
        del path[len(indent) // 2 :]
        lines.append((name, path[-1] if path else None, remark))
        path.append(name)
    return lines


def test_the_drawn_tree_is_the_tree_of_the_classes() -> None:
    parents = {
        kind.__name__: next(
            (base.__name__ for base in kind.__bases__ if issubclass(base, errors.RerankError)), None
        )
        for kind in KINDS
    }
    assert {name: parent for name, parent, _ in drawn()} == parents
    assert len(drawn()) == len(KINDS)


@pytest.mark.parametrize(("name", "parent", "remark"), drawn())
def test_a_kind_is_of_python_as_well_exactly_where_the_tree_says_so(
    name: str, parent: str | None, remark: str
) -> None:
    said = re.search(r"also a (\w+)", remark)
    foreign = [base for base in getattr(errors, name).__bases__ if base.__module__ == "builtins"]
    assert foreign == ([getattr(builtins, said[1])] if said else [] if parent else [Exception])


def test_codes_are_given_by_each_kind_and_are_all_different() -> None:
    assert all("code" in vars(kind) for kind in KINDS)
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
    assert CANCELLED not in codes


def test_every_kind_says_what_it_means() -> None:
    assert [
        kind.__name__ for kind in KINDS if "__doc__" not in vars(kind) or not kind.__doc__
    ] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickle_with_its_message(
    kind: type[errors.RerankError], protocol: int
) -> None:
    error = make(kind, "what: ü 100%")
    copy = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301
    assert type(copy) is kind
    assert str(copy) == str(error) != ""
    assert (copy.code, copy.retryable) == (error.code, error.retryable)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_record_holds_code_message_and_whether_to_try_again(
    kind: type[errors.RerankError],
) -> None:
    error = make(kind, "what")
    failure = error.as_failure("j9", attempts=2)
    assert failure.model_dump() == {
        "job_id": "j9",
        "code": kind.code,
        "message": str(error),
        "retryable": error.retryable,
        "attempts": 2,
    }


def test_trying_again_helps_only_where_the_trouble_is_outside_the_job() -> None:
    assert {kind.code for kind in KINDS if kind.retryable} == {
        "redis_unavailable",
        "not_replicated",
        "overloaded",
        "result_timeout",
        "no_worker",
        "out_of_memory",
        "payload_too_new",
    }


def test_kept_as_a_dead_letter_is_what_failed_though_its_payload_is_sound() -> None:
    assert {kind.code for kind in KINDS if kind.dead_letter} == {
        "scoring_failed",
        "model_unavailable",
        "bad_scores",
        "out_of_memory",
        "time_limit",
        "attempts_exhausted",
        "payload_too_new",
    }


def test_a_failed_job_carries_its_failure_and_tells_it() -> None:
    error = pickle.loads(pickle.dumps(errors.JobFailed(FAILURE)))  # noqa: S301
    assert error.failure == FAILURE
    assert str(error) == "job j1 failed (out_of_memory): it did not fit"
