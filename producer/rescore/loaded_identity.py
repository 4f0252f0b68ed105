"""Ask the workers which model and settings they score with, to find the matching cached scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contract.errors import JobFailed
from contract.scoring import ScoringIdentity
from producer.client.blocking import RerankClient
from producer.client.worker_inspector import WorkerReadiness
from producer.rescore.options import Options
from producer.rescore.staged_query import StagedQuery
from producer.score_cache.cache import ScoreCache

#: How long workers may take to answer. All of them are asked.
ANSWER_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class LoadedModel:
    """The model that the workers have loaded for the jobs of a run."""

    #: The name of the model that the jobs request.
    requested: str
    identity: ScoringIdentity


def find(
    client: RerankClient,
    cache: ScoreCache,
    options: Options,
    query: StagedQuery,
    notify: Callable[[str], object],
) -> LoadedModel | None:
    """Return what the workers have loaded, if the cache has scores of it; else None.

    If no worker has loaded the model yet, one is made to do so: the first pair of `query` is
    scored. `notify` receives the reason why the cache cannot be read.
    """
    if cache.is_empty:
        return None
    workers = list(client.readiness(ANSWER_TIMEOUT_S).values())
    requested = _requested(workers, options.model, notify)
    if requested is None:
        return None
    digests = _digests(workers, requested)
    if not digests and any(each.scorings is not None for each in workers):
        if not _load(client, options, query):
            return None  # all jobs will fail in the same way
        digests = _digests(list(client.readiness(ANSWER_TIMEOUT_S).values()), requested)
    if len(digests) != 1 or "" in digests:
        notify(f"the cache is not read, because {_why_unknown(digests)}")
        return None
    passages = options.passages.key if options.passages else None
    identity = cache.identity(digests.pop(), passages)
    return None if identity is None else LoadedModel(requested, identity)


def _requested(
    workers: Sequence[WorkerReadiness], model: str | None, notify: Callable[[str], object]
) -> str | None:
    """Return the model of jobs; that of the workers by default, if they have the same."""
    if model is not None:
        return model
    defaults = sorted({each.model for each in workers})
    if len(defaults) > 1:
        notify(f"the cache is not read, because the workers differ: {', '.join(defaults)}")
    return defaults[0] if len(defaults) == 1 else None


def _digests(workers: Sequence[WorkerReadiness], model: str) -> set[str]:
    return {digest for each in workers for digest in (each.scorings or {}).get(model, ())}


def _load(client: RerankClient, options: Options, query: StagedQuery) -> bool:
    """Have one pair scored, by a worker that loads the model for it; return whether it could."""
    try:
        client.rerank(
            query.text,
            query.texts[:1],
            model=options.model,
            priority=options.priority,
            allow_downgrade=False,
            timeout=options.max_wait_s,
        )
    except JobFailed:
        return False
    return True


def _why_unknown(digests: set[str]) -> str:
    if len(digests) > 1:
        return "the workers have loaded different revisions or settings of the model"
    if digests:
        return "the revision of the workers' model is not known"
    return "the workers are of an earlier version"
