"""Try the large model of a cascade before the small one scores everything."""

from __future__ import annotations

from contract.errors import JobFailed, RerankError
from producer.client.blocking import RerankClient
from producer.rescore.options import Cascade, Options
from producer.rescore.staged_query import StagedQuery

#: The number of pairs to score. They are enough to tell the speed roughly.
PAIRS = 16


def check_is_another(client: RerankClient, cascade: Cascade, options: Options) -> None:
    """Raise `InvalidInput` if both passes would use the same model, the workers' own."""
    if options.model is None:
        for each in client.readiness().values():
            cascade.check_other(each.model)


def pairs_per_s(
    client: RerankClient, large: Options, query: StagedQuery, children: int
) -> float | None:
    """Have the large model score some pairs, so that a bad one is found before the first pass.

    Return the number of pairs that `children` processes score in a second; None if it is unknown.
    Raises `RerankError` with the worker's message.
    """
    try:
        result = client.rerank(
            query.text,
            query.texts[:PAIRS],
            model=large.model,
            priority=large.priority,
            allow_downgrade=large.allow_downgrade,
            passages=large.passages,
            timeout=large.max_wait_s,
        )
    except JobFailed as error:
        raise RerankError(f"a worker could not score with {large.name}: {error}") from error
    source = result.provenance
    if source.downgraded or not source.seconds:
        return None
    return children * source.pairs / source.seconds
