"""Wait until replicas have acknowledged an operation, for callers who pay for certainty."""

from __future__ import annotations

from typing import Any, TypeVar

from contract.errors import NotReplicated
from contract.store.operation import Operation, Schema

T = TypeVar("T")

#: How long the key of `replicated` is kept.
MARK_TTL_S = 60


def replicated(schema: Schema, operation: Operation[T]) -> Operation[T]:
    """Return the operation, followed by `WAIT` if RERANKQ_WAIT_REPLICAS is set.

    The operation must consist of a single script, because `WAIT` does not wait in a transaction.
    When read, raises `NotReplicated` if too few replicas acknowledge it in time.
    """
    settings = schema.settings
    needed, timeout_s = settings.wait_replicas, settings.wait_timeout_s
    if not needed:
        return operation

    def send(pipe: Any) -> None:
        operation.send(pipe)
        # `WAIT` concerns only writes of the same connection, and a job that is submitted again is
        # not written again.
        pipe.set(schema.keys.replicated, 1, ex=MARK_TTL_S)
        pipe.wait(needed, round(timeout_s * 1000))

    def read(replies: list[Any]) -> T:
        *ours, _, acknowledged = replies
        result = operation.read(ours)
        if acknowledged < needed:
            raise NotReplicated(
                f"{acknowledged} of {needed} replicas (RERANKQ_WAIT_REPLICAS) of Redis at"
                f" {settings.redis_location} acknowledged the job within {timeout_s:g} s"
                " (RERANKQ_WAIT_TIMEOUT_S). The job is stored, and a failover may lose it; submit"
                " it again with the same id, or check that the replicas are connected"
            )
        return result

    return Operation(send, read, in_sequence=True)
