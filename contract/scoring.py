"""The identity of a scoring: everything that a score depends on, except the two texts."""

from __future__ import annotations

import hashlib
from typing import Any, Self

from contract.models import ModelName, is_stub
from contract.records import Provenance, Record


class ScoringIdentity(Record):
    """Two scorings with equal identities give a pair the same score.

    On the fast path, the scores are exactly the same on one kind of processor. Otherwise,
    they may differ as they do between two batches.
    """

    #: The name without a revision.
    model: str
    #: The commit or the fingerprint that is loaded; None for a stub, whose name says everything.
    revision: str | None
    #: The version of the code that computes scores: see `worker.engine.scoring_version`.
    version: int
    backend: str
    #: The kind of device, without a number.
    device: str
    dtype: str
    max_length: int
    #: The prompt that was set for the model; None if it reads its own, or none.
    prompt: str | None = None
    #: How documents are cut into passages, as `TOKENS/STRIDE/AGGREGATE`; None if they are not.
    passages: str | None = None

    @property
    def digest(self) -> str:
        """A short text that no other identity has. Fields that are None do not affect it."""
        known = self.model_dump_json(exclude_none=True)
        return hashlib.blake2b(known.encode(), digest_size=16).hexdigest()

    @classmethod
    def of(cls, source: Provenance, version: int | None) -> Self | None:
        """Return the identity of what scored a result; None if it is not known completely."""
        if version is None:
            return None
        return cls.known(
            model=source.model,
            revision=source.revision,
            version=version,
            backend=source.backend,
            device=source.device,
            dtype=source.dtype,
            max_length=source.max_length,
            prompt=source.prompt,
            passages=source.passages,
        )

    @classmethod
    def known(cls, *, model: str, revision: str | None, device: str, **others: Any) -> Self | None:
        """Return the identity; None if the version of the model is not known."""
        if revision is None and not is_stub(model):
            return None
        # The name without its revision, and the device without its number.
        base, kind = ModelName.parse(model).base, device.partition(":")[0]
        return cls(model=base, revision=revision, device=kind, **others)

    def provenance(self, requested: str, pairs: int) -> Provenance:
        """Return the origin of scores that this scoring computed earlier."""
        return Provenance(
            model_requested=requested,
            model=requested,
            revision=self.revision,
            attempts=0,
            backend=self.backend,
            device=self.device,
            dtype=self.dtype,
            max_length=self.max_length,
            prompt=self.prompt,
            pairs=pairs,
            unique_pairs=pairs,
            tokens=0,
            truncated=0,
            passages=self.passages,
            seconds=0.0,
        )
