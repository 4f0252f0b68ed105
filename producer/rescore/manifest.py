"""Describe a re-scoring in a file next to its output, so that only the same command resumes it.

Any other command is refused, with the differences in the message.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_core import to_json

from contract.errors import InvalidInput
from contract.records import Record, is_none
from contract.validation import describe
from producer.files.outputs import NEW_FILE_MODE, atomic_file
from producer.rescore.options import RetryKind

#: What a user can do about a run that cannot be resumed.
RECOVERY_HINT = "pass --restart to discard the earlier run, or choose another --output"


class InputDigests(Record):
    """SHA-256 digests of all inputs of the jobs."""

    queries: str
    #: Without the texts of documents, which have a separate digest.
    candidates: str
    documents: str


class ScoringSettings(Record):
    """The settings that affect scores or the lines of the output.

    Without the newer ones, the manifest is that of earlier versions, which can continue the run.
    """

    model: str | None
    depth: int | None
    top_k: int | None
    allow_downgrade: bool
    #: The small model of a cascade and the number of documents that the other one scores.
    cascade: str | None = Field(None, exclude_if=is_none)
    #: The shard that is scored, such as "3/16"; None for the whole run.
    shard: str | None = Field(None, exclude_if=is_none)
    #: How documents are cut into passages: see `contract.passages`.
    passages: str | None = Field(None, exclude_if=is_none)


class Round(Record, populate_by_name=True):
    """A pass over the queries: over all in the first round, later over the retried ones."""

    #: The offset of its first line in the journal.
    begins_at: int = 0
    #: Empty for the first round.
    retry: tuple[RetryKind, ...] = Field((), alias="redo")
    #: Changes of the number of pairs in a job: the place in the round, from 0, of the first query
    #: that it applies to, and the number.
    job_sizes: tuple[tuple[int, int], ...] = ()
    #: At least the maximum number of jobs that have been in flight.
    most_in_flight: int = 0


class Manifest(Record, populate_by_name=True):
    """The inputs and settings on which a re-scoring depends."""

    version: Literal[1] = 1
    #: The prefix of the job ids.
    run_id: str
    inputs: InputDigests
    settings: ScoringSettings = Field(alias="asked")
    #: The number for the first jobs; another number would change the jobs, but not the scores.
    pairs_per_job: int
    round: Round = Round()
    #: The maximum length of each model in tokens, according to the results so far.
    max_lengths: dict[str, int] = Field(default_factory=dict)
    #: The revision of each model.
    revisions: dict[str, str] = Field(default_factory=dict)
    #: The prompt that was set for each model, or None. In all three, names are without revisions.
    prompts: dict[str, str | None] = Field(default_factory=dict)

    @classmethod
    def new(cls, inputs: InputDigests, settings: ScoringSettings, pairs_per_job: int) -> Self:
        """Return the manifest of a new run."""
        return cls(
            run_id=secrets.token_hex(6),
            inputs=inputs,
            settings=settings,
            pairs_per_job=pairs_per_job,
        )

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Return the manifest at `path`; None if there is none. Raises `InvalidInput`."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise InvalidInput(
                f"{path}: not a manifest of this version ({describe(error)}); {RECOVERY_HINT}"
            ) from error

    def save(self, path: Path, mode: int = NEW_FILE_MODE) -> None:
        """Write the manifest to `path` in one step. Raises `OSError`."""
        with atomic_file(str(path), mode) as file:
            file.write(self.model_dump_json(indent=2, by_alias=True).encode() + b"\n")

    def check_same(self, other: Manifest, path: Path) -> None:
        """Raise `InvalidInput` with the differences if `other` would be scored differently."""
        if differing := list(_differences(self, other)):
            raise InvalidInput(
                f"{path}: the earlier run differs in {', '.join(differing)}; {RECOVERY_HINT}"
            )

    def job_id(self, query_ids: Sequence[str]) -> str:
        """Return the id of the job of these queries in this round, the same at each start."""
        return f"{self.run_id}-{digest([(self.round.begins_at, *query_ids)])[:12]}"


def digest(rows: Iterable[Sequence[Any]]) -> str:
    """Return the SHA-256 of rows of plain values, in this order."""
    made = hashlib.sha256()
    for row in rows:
        made.update(json.dumps(row).encode() + b"\n")
    return made.hexdigest()


def digest_of_texts(rows: Iterable[tuple[str, str]]) -> str:
    """Return what `digest` returns for rows of two strings, in a fraction of the time."""
    made = hashlib.sha256()
    for id_, text in rows:
        made.update(b"[%b, %b]\n" % (_ascii_json(id_), _ascii_json(text)))
    return made.hexdigest()


def _ascii_json(text: str) -> bytes:
    """Return the JSON of a string in ASCII."""
    # Both give the same for these characters, but `to_json` is several times as fast.
    if text.isascii() and "\x7f" not in text:
        return to_json(text)
    return json.dumps(text).encode()


def setting_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    """Yield the option of each setting that differs, with both values."""
    for name in dict.fromkeys((*old, *new)):
        before, now = old.get(name), new.get(name)
        if before != now:
            option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
            yield f"{option} ({_shown(before)} -> {_shown(now)})"


def _differences(old: Manifest, new: Manifest) -> Iterable[str]:
    yield from setting_differences(old.settings.model_dump(), new.settings.model_dump())
    # Another shard or depth, which is already reported, selects other queries or candidates.
    if old.settings.shard != new.settings.shard:
        return
    same_depth = old.settings.depth == new.settings.depth
    for name, noun in INPUT_NOUNS.items():
        if getattr(old.inputs, name) != getattr(new.inputs, name) and (
            same_depth or name == "queries"
        ):
            yield noun


#: The names of settings that are not those of their options.
_OPTIONS = {"allow_downgrade": "downgrades"}
#: What a message calls the inputs.
INPUT_NOUNS = {"queries": "the queries", "candidates": "the run", "documents": "the documents"}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "allowed" if value else "not allowed"
    return "not given" if value is None else str(value)
