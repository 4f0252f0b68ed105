"""Submit rerank jobs and read their results, with a blocking or an asyncio client.

    from producer import RerankClient
    with RerankClient() as client:
        result = client.rerank("a query", ["a document", "another"])

The clients are imported on first use, so a program pays only for the one that it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contract.batches import BatchProgress, RunProgress
    from contract.errors import JobFailed, RerankError
    from contract.jobs import Candidate, JobResult, JobStatus, QueueStatus, RankedDocument, Request
    from contract.settings import Settings
    from producer.client.async_batch import AsyncBatch
    from producer.client.asynchronous import AsyncRerankClient
    from producer.client.batch import Batch
    from producer.client.blocking import RerankClient

_HOMES = {
    "AsyncBatch": "producer.client.async_batch",
    "AsyncRerankClient": "producer.client.asynchronous",
    "Batch": "producer.client.batch",
    "BatchProgress": "contract.batches",
    "Candidate": "contract.jobs",
    "JobFailed": "contract.errors",
    "JobResult": "contract.jobs",
    "JobStatus": "contract.jobs",
    "QueueStatus": "contract.jobs",
    "RankedDocument": "contract.jobs",
    "RerankClient": "producer.client.blocking",
    "RerankError": "contract.errors",
    "Request": "contract.jobs",
    "RunProgress": "contract.batches",
    "Settings": "contract.settings",
}

__all__ = [
    "AsyncBatch",
    "AsyncRerankClient",
    "Batch",
    "BatchProgress",
    "Candidate",
    "JobFailed",
    "JobResult",
    "JobStatus",
    "QueueStatus",
    "RankedDocument",
    "Request",
    "RerankClient",
    "RerankError",
    "RunProgress",
    "Settings",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
