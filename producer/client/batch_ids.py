"""The ids of the jobs of a batch, which the batches of both clients are."""

from __future__ import annotations

from typing import Any

from contract.store.batches import StoredBatch
from producer.client.batch_progress import Follower


class BatchIds(list[str]):
    """The ids of the jobs of a batch, in order.

    It is a list, because earlier versions of `submit_many` returned one.
    """

    def __init__(self, stored: StoredBatch) -> None:
        super().__init__(f"{stored.id}.{name}" for some in stored.names() for name in some)
        #: The id of the batch, by which `batch` of a client in any process finds it again.
        self.id = stored.id
        #: The batch's name for people.
        self.label = stored.label
        self._stored = stored
        self._follower = Follower(stored)

    def __reduce__(self) -> tuple[Any, ...]:
        # The connections of a client cannot be copied to another process, but the ids can.
        return list, (list(self),)
