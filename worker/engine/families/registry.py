"""Find the family of a model."""

from __future__ import annotations

from collections.abc import Sequence

from sentence_transformers import CrossEncoder

from worker.engine.families import (
    bert,
    distilbert,
    electra,
    modernbert,
    modernbert_modules,
    roberta,
)
from worker.engine.families.family import Family
from worker.engine.pair_layout import PairLayout

FAMILIES = (bert.FAMILY, roberta.FAMILY, electra.FAMILY, distilbert.FAMILY, modernbert.FAMILY)


def find(encoder: CrossEncoder) -> Family | None:
    """Return the family that computes this model, or None if `CrossEncoder.predict` must.

    A model needs one score per pair, no prompt, and a tokenizer whose pairs have the same special
    tokens around any texts.
    """
    model, tokenizer = encoder.model, encoder.tokenizer
    if encoder.default_prompt_name is not None or encoder.num_labels != 1:
        return None
    if not tokenizer.is_fast or tokenizer.truncation_side != "right":
        return None
    if PairLayout.of(tokenizer) is None:
        return None
    for family in _candidates(encoder):
        if type(model) in family.classes and family.supports(model):
            return family
    return None


def _candidates(encoder: CrossEncoder) -> Sequence[Family]:
    """Return the families that an encoder may be of, judged by its modules."""
    if len(encoder) == 1:
        return FAMILIES
    found = modernbert_modules.family_of(encoder)
    return () if found is None else (found,)
