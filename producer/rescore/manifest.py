"""What a re-scoring was begun with, beside its output: the same command goes on with it, and any
other is told what differs.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from contract.errors import InvalidInput
from contract.jobs import Record
from contract.validation import describe
from producer.files.outputs import NEW_FILE_MODE, atomic_file
from producer.rescore.options import RetryKind

#: What a user can do about a run that cannot be taken up.
WAYS_OUT = "--restart forgets it and begins anew; another --output leaves it as it is"


class InputDigests(Record):
    """SHA-256 of what is to be scored, as far as it reaches a job."""

    queries: str
    #: Without the texts that the documents have.
    candidates: str
    documents: str


class ScoringSettings(Record):
    """The settings that scores, or the lines of the output, depend on."""

    model: str | None
    depth: int | None
    top_k: int | None
    allow_downgrade: bool


class Round(Record, populate_by_name=True):
    """A pass over the queries: the first over all, others over those to be retried."""

    #: Where in the journal its lines begin.
    begins_at: int = 0
    #: Empty for the first.
    retry: tuple[RetryKind, ...] = Field((), alias="redo")


class Manifest(Record, populate_by_name=True):
    """What a re-scoring was begun with."""

    version: Literal[1] = 1
    #: Begins the ids of its jobs.
    run_id: str
    inputs: InputDigests
    settings: ScoringSettings = Field(alias="asked")
    #: Another number would make other jobs, not other scores: the one of the beginning is kept.
    pairs_per_job: int
    round: Round = Round()
    #: By model: tokens of a pair that it read, as the results so far tell.
    max_lengths: dict[str, int] = Field(default_factory=dict)

    @classmethod
    def new(cls, inputs: InputDigests, settings: ScoringSettings, pairs_per_job: int) -> Self:
        """The manifest of a run that begins."""
        return cls(
            run_id=secrets.token_hex(6),
            inputs=inputs,
            settings=settings,
            pairs_per_job=pairs_per_job,
        )

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The manifest at `path`, None if there is none. Raises `InvalidInput`."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise InvalidInput(
                f"{path}: not a manifest of this version ({describe(error)}): {WAYS_OUT}"
            ) from error

    def save(self, path: Path, mode: int = NEW_FILE_MODE) -> None:
        """Put it at `path`, in place of what was there, whole. Raises `OSError`."""
        with atomic_file(str(path), mode) as file:
            file.write(self.model_dump_json(indent=2, by_alias=True).encode() + b"\n")

    def check_same(self, other: Manifest, path: Path) -> None:
        """Raise `InvalidInput` that names what `other` asks to be scored in another way."""
        if differing := list(_differences(self, other)):
            raise InvalidInput(
                f"{path}: the run that was begun there differs: {', '.join(differing)}: {WAYS_OUT}"
            )

    def job_id(self, query_ids: Sequence[str]) -> str:
        """The id of the job of these queries in this round: always the same."""
        return f"{self.run_id}-{digest([(self.round.begins_at, *query_ids)])[:12]}"


def digest(rows: Iterable[Sequence[Any]]) -> str:
    """SHA-256 of rows of plain values, in this order."""
    made = hashlib.sha256()
    for row in rows:
        made.update(json.dumps(row).encode() + b"\n")
    return made.hexdigest()


def _differences(old: Manifest, new: Manifest) -> Iterable[str]:
    for name, option in _OPTIONS.items():
        before, now = getattr(old.settings, name), getattr(new.settings, name)
        if before != now:
            yield f"{option} ({_shown(before)} -> {_shown(now)})"
    # Another depth takes other candidates: that is said already.
    same_depth = old.settings.depth == new.settings.depth
    for name, noun in _INPUTS.items():
        if getattr(old.inputs, name) != getattr(new.inputs, name) and (
            same_depth or name == "queries"
        ):
            yield noun


_OPTIONS = {
    "model": "--model",
    "depth": "--depth",
    "top_k": "--top-k",
    "allow_downgrade": "whether to downgrade",
}
_INPUTS = {"queries": "the queries", "candidates": "the run", "documents": "the documents"}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not given" if value is None else str(value)
