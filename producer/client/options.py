"""Define the options of a submission, for type checkers and for `help`, for both clients.

The methods of the clients accept them as `**options: Unpack[...]`. To add an option, add it here
and in `producer.client.preparing`, which uses it and defines its default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar

from contract.passages import Passages

F = TypeVar("F", bound=Callable[..., Any])

#: A number of tokens, or the fields of a `Passages`.
PassagesOption = Passages | Mapping[str, object] | int | None


class JobOptions(TypedDict, total=False):
    """Options of every submission.

    - `model`: the model to use, instead of the worker's default; see RERANKQ_ALLOWED_MODELS.
    - `allow_downgrade`: whether a smaller model may score the job if memory runs out (True).
    - `priority`: 0 (first) to 9 (last).
    - `group`: the group with which bulk jobs share turns (RERANKQ_GROUP, or the client's own).
    - `trace`: the W3C trace context that the worker continues: `traceparent`, `tracestate`.
    - `passages`: cut long documents into passages of this many tokens (None: truncate them). A dict
      can have `tokens`, `stride` (by default half of it) and `aggregate` (`max`).
    """

    model: str | None
    allow_downgrade: bool
    priority: int
    group: str | None
    trace: Mapping[str, str] | None
    passages: PassagesOption


class SubmitOptions(JobOptions, total=False):
    """Options of `submit` and `rerank`: those of `JobOptions`, and two more.

    - `top_k`: the number of best documents to keep (None keeps all).
    - `job_id`: an id chosen by the caller.
    """

    top_k: int | None
    job_id: str | None


class SubmitManyOptions(JobOptions, total=False):
    """Options of `submit_many`: those of `JobOptions`, and three more.

    - `pairs_per_job`: the maximum number of documents in a job (None: as the limits allow).
    - `batch_id`: an id for all jobs together, chosen by the caller.
    - `label`: a name of the batch for people, which `rerankq status --batches` shows.
    """

    pairs_per_job: int | None
    batch_id: str | None
    label: str | None


def takes_options_of(function: Callable[..., Any]) -> Callable[[F], F]:
    """Show the options of `function` in the signature of a method that passes `**options` on.

    Type checkers read them from the method's `Unpack[...]`. `help` and `inspect.signature` read
    them and their defaults from the signature that this decorator sets.
    """
    options = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    ]

    def decorate(method: F) -> F:
        signature = inspect.signature(method)
        own = list(signature.parameters.values())[:-1]  # without **options
        method.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *options]
        )
        return method

    return decorate
