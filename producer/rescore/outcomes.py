"""Record the outcomes of jobs in the journal, and count them."""

from __future__ import annotations

from contract import jobs
from producer.rescore.journal import Journal


class OutcomeRecorder:
    """Appends outcomes to a journal; `progress` includes the journal's earlier content."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.progress = journal.progress()

    def find_mismatch(self, result: jobs.JobResult) -> str | None:
        """Return how a result's model or settings differ from those of the run so far.

        Scores of two models, or of texts truncated to two lengths, must not be mixed in one run.
        """
        source = result.provenance
        first, now = self._journal.model_requested, source.model_requested
        length = self._journal.max_lengths.get(source.model, source.max_length)
        if first not in (None, now):
            differs = f"with {now!r}, but earlier jobs with {first!r}"
            setting = f"CROSS_ENCODER_MODEL={first}"
        elif length != source.max_length:
            differs = (
                f"by {source.model!r} with a maximum length of {source.max_length} tokens, but"
                f" earlier jobs with {length}"
            )
            setting = f"RERANKQ_MAX_LENGTH={length}"
        else:
            return None
        return (
            f"job {result.job_id} was scored {differs}; start the workers with {setting}, or pass"
            " --restart to score everything again"
        )

    def record(self, job: jobs.Job, outcome: jobs.Outcome) -> None:
        """Append the outcome of a job. Raises `OSError` if the disk is full."""
        if isinstance(outcome, jobs.JobResult):
            self._journal.add_result(outcome)
            self._count(job, outcome)
        else:
            self._journal.add_failure([each.query_id or "" for each in job.requests], outcome)
            self._count_failed(job, outcome)

    def _count(self, job: jobs.Job, result: jobs.JobResult) -> None:
        progress, queries = self.progress, len(job.requests)
        progress.pairs += job.pairs
        progress.queries += queries
        progress.truncated += sum(each.truncated for each in result.rankings)
        progress.models[result.provenance.model] += queries
        if result.provenance.downgraded:
            progress.downgraded_queries += queries

    def _count_failed(self, job: jobs.Job, failure: jobs.Failure) -> None:
        progress, queries = self.progress, len(job.requests)
        progress.failed_pairs += job.pairs
        progress.failed_queries += queries
        progress.codes[failure.code] += queries
        progress.first_failure = progress.first_failure or failure.message
