"""Score a staged collection with an LLM reranker, as one side of a comparison."""

from __future__ import annotations

import time
from collections.abc import Callable

from contract import jobs
from contract.errors import ModelUnavailable, ScoringError
from producer.llm.reranker import LLMReranker
from producer.rescore.journal import Journal
from producer.rescore.options import LEAST_JOBS, Options
from producer.rescore.outcomes import OutcomeRecorder
from producer.rescore.progress import Progress

#: A model with this prefix is one behind an OpenAI-compatible endpoint.
PREFIX = "llm:"


def is_llm(model: str | None) -> bool:
    """Return whether an LLM reranker serves this model."""
    return bool(model) and str(model).startswith(PREFIX)


def reranker_of(options: Options) -> LLMReranker:
    """Return the reranker for the model of `options`, with a call for each job in flight.

    Raises `InvalidInput` if the endpoint is not configured, or `ModelUnavailable` if it refuses a
    first call.
    """
    name = str(options.model).removeprefix(PREFIX)
    made = LLMReranker(name, concurrency=options.window or LEAST_JOBS)
    try:
        made.rank("a query", ["a document"])
    except ModelUnavailable:
        raise
    except ScoringError as error:
        # A malformed answer may be an accident; a missing answer is not.
        if not made.usage.malformed:
            raise ModelUnavailable(str(error)) from error
    return made


def rescore(
    reranker: LLMReranker, journal: Journal, report_progress: Callable[[Progress], object]
) -> Progress:
    """Score all queries, one after the other; call `report_progress` after each.

    A query is recorded as failed if none of its documents was rated.
    """
    recorder = OutcomeRecorder(journal)
    for query in journal.staged_queries():
        job = jobs.Job(id=jobs.new_job_id(), requests=(query.request(None),))
        try:
            outcome: jobs.Outcome = _result(reranker, job)
        except ScoringError as error:
            outcome = error.as_failure(job.id, attempts=1)
        recorder.record(job, outcome)
        report_progress(recorder.progress)
    return recorder.progress


def _result(reranker: LLMReranker, job: jobs.Job) -> jobs.JobResult:
    (request,) = job.requests
    began, before = time.monotonic(), reranker.usage
    ranked = reranker.rank(request.query, [each.text for each in request.candidates])
    used = reranker.usage
    model = PREFIX + reranker.model_name
    return jobs.JobResult(
        job_id=job.id,
        rankings=(
            jobs.Ranking(
                query_id=request.query_id,
                documents=tuple(
                    each.model_copy(update={"id": request.candidates[each.index].id})
                    for each in ranked
                ),
            ),
        ),
        provenance=jobs.Provenance(
            model_requested=model,
            model=model,
            attempts=1,
            backend="openai",
            device=reranker.base_url,
            dtype="",
            max_length=0,
            pairs=job.pairs,
            unique_pairs=job.pairs,
            tokens=used.prompt_tokens - before.prompt_tokens,
            truncated=0,
            seconds=time.monotonic() - began,
        ),
    )
