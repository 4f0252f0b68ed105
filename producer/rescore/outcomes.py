"""Record the outcomes of jobs in the journal, and count them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Protocol

from contract import jobs
from contract.columns import JobColumns, ResultColumns
from contract.models import ModelName, is_fingerprint
from producer.rescore.journal_lines import Line
from producer.rescore.progress import Progress


class RunJournal(Protocol):
    """The part of a `Journal` that records outcomes."""

    resumable: bool
    max_lengths: dict[str, int]
    revisions: dict[str, str]
    prompts: dict[str, str | None]

    @property
    def model_requested(self) -> str | None:
        """The requested model of the first result."""
        ...

    def progress(self) -> Progress:
        """Return the progress recorded in the journal."""
        ...

    def add_result(self, result: jobs.JobResult | ResultColumns) -> None:
        """Append a line for each query of a job."""
        ...

    def add_part(self, result: ResultColumns) -> None:
        """Note the result of a part of a query, before those of the other parts."""
        ...

    def add_failure(self, query_ids: list[str], failure: jobs.Failure) -> None:
        """Append a line for each query that has no ranking."""
        ...


class AppendableJournal(RunJournal, Protocol):
    """A `RunJournal` to which other processes append lines."""

    def append(self, lines: Sequence[Line]) -> None:
        """Append lines, and return when they are on disk."""
        ...


#: Characters of a prompt in a message.
PROMPT_CHARS = 60


class OutcomeRecorder:
    """Appends outcomes to a journal; `progress` includes the journal's earlier content."""

    def __init__(self, journal: RunJournal) -> None:
        self._journal = journal
        self.progress = journal.progress()

    def find_mismatch(self, job_id: str, asked: str | None, source: jobs.Provenance) -> str | None:
        """Return how a result's model or settings differ from those of the run so far.

        `asked` is the model that its job names. Scores of two models, of two revisions of a model,
        of texts truncated to two lengths, or with two prompts must not be mixed in one run.
        """
        name = ModelName.parse(source.model).base
        first, now = self._journal.model_requested, source.model_requested
        length = self._journal.max_lengths.get(name, source.max_length)
        revision = self._journal.revisions.get(name)
        prompt = self._journal.prompts.get(name, source.prompt)
        if first is not None and not _same_but_for_revisions(first, now):
            differs = f"with {now!r}, but earlier jobs with {first!r}"
            fix = f"start the workers with CROSS_ENCODER_MODEL={first}"
        elif revision and source.revision and revision != source.revision:
            differs = (
                f"by revision {source.revision} of {source.model!r}, but earlier jobs by {revision}"
            )
            fix = _how_to_continue_with(asked, source, revision)
        elif length != source.max_length:
            differs = (
                f"by {source.model!r} with a maximum length of {source.max_length} tokens, but"
                f" earlier jobs with {length}"
            )
            fix = f"start the workers with RERANKQ_MAX_LENGTH={length}"
        elif prompt != source.prompt:
            differs = (
                f"by {source.model!r} with {_described(source.prompt)}, but earlier jobs with"
                f" {_described(prompt)}"
            )
            setting = "without RERANKQ_PROMPT" if prompt is None else "with this RERANKQ_PROMPT"
            fix = f"start the workers {setting}"
        else:
            return None
        return (
            f"job {job_id} was scored {differs}; {fix}, or pass --restart to score everything again"
        )

    def record(self, job: jobs.Job | JobColumns, outcome: jobs.Outcome | ResultColumns) -> None:
        """Append the outcome of a job. Raises `OSError` if the disk is full."""
        if isinstance(outcome, jobs.Failure):
            self._journal.add_failure(_query_ids(job), outcome)
            self._count_failed(job, outcome)
        else:
            self._journal.add_result(outcome)
            self._count(job, outcome)

    def _count(self, job: jobs.Job | JobColumns, result: jobs.JobResult | ResultColumns) -> None:
        progress, queries = self.progress, len(_query_ids(job))
        progress.pairs += job.pairs
        progress.queries += queries
        columns = result if isinstance(result, ResultColumns) else ResultColumns.of(result)
        progress.truncated += sum(columns.truncated)
        progress.lost_tokens += sum(columns.lost_tokens or ())
        progress.shortened += sum(columns.shortened or ())
        progress.models[result.provenance.model] += queries
        if result.provenance.downgraded:
            progress.downgraded_queries += queries

    def _count_failed(self, job: jobs.Job | JobColumns, failure: jobs.Failure) -> None:
        progress, queries = self.progress, len(_query_ids(job))
        progress.failed_pairs += job.pairs
        progress.failed_queries += queries
        progress.codes[failure.code] += queries
        progress.first_failure = progress.first_failure or failure.message


def _query_ids(job: jobs.Job | JobColumns) -> list[str]:
    if isinstance(job, JobColumns):
        return [each or "" for each in job.query_ids or ()]
    return [each.query_id or "" for each in job.requests]


def _same_but_for_revisions(model: str, other: str) -> bool:
    """Return whether two names differ at most in the revision that they pin."""
    return ModelName.parse(model).base == ModelName.parse(other).base


def _described(prompt: str | None) -> str:
    """Return the beginning of a prompt, for a message."""
    if prompt is None:
        return "no prompt from RERANKQ_PROMPT"
    return f"the prompt {textwrap.shorten(prompt, PROMPT_CHARS, placeholder=' ...')!r}"


def _how_to_continue_with(asked: str | None, source: jobs.Provenance, revision: str) -> str:
    """Return how to continue with an earlier revision."""
    if is_fingerprint(revision):
        return "give all workers the earlier files of the model"
    pinned = ModelName.parse(source.model).at(revision)
    if source.downgraded:
        return f"start the workers with RERANKQ_DOWNGRADE_MODEL={pinned}"
    if asked is None:
        return f"start the workers with CROSS_ENCODER_MODEL={pinned}"
    return f"restore this revision of {source.model!r} in the cache of the workers"
