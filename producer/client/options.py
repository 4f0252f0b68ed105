"""Options of a submission, for type checkers and for `help`; both clients take the same.

The methods of the clients take them as `**options: Unpack[...]`, so that an option is added here,
and in `producer.client.preparing`, which uses it and has its default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class JobOptions(TypedDict, total=False):
    """Options of every submission.

    - `model`: another model than the worker's default; see RERANKQ_ALLOWED_MODELS.
    - `allow_downgrade`: whether a smaller model may score the job if memory runs out (True).
    - `priority`: 0 (first) to 9 (last).
    """

    model: str | None
    allow_downgrade: bool
    priority: int


class SubmitOptions(JobOptions, total=False):
    """Options of `submit` and `rerank`: those of `JobOptions`, and two more.

    - `top_k`: how many of the best documents to keep (None keeps all).
    - `job_id`: an id of the caller's choice.
    """

    top_k: int | None
    job_id: str | None


class SubmitManyOptions(JobOptions, total=False):
    """Options of `submit_many`: those of `JobOptions`, and one more.

    - `pairs_per_job`: at most so many documents in a job (None: as many as the limits allow).
    """

    pairs_per_job: int | None


def takes_options_of(function: Callable[..., Any]) -> Callable[[F], F]:
    """Show the options of `function` in the signature of a method that passes `**options` on.

    A type checker sees them in the method's `Unpack[...]`; `help` and `inspect.signature` see them,
    and their defaults, through this.
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
