"""The classes of models that our own networks compute, as configurations name them.

This does not import transformers, so that a process can decide without it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

from contract.models import is_stub
from worker.engine import model_paths
from worker.engine.unusable import UnusableModel

CLASSES = frozenset(
    {
        "BertForSequenceClassification",
        "CamembertForSequenceClassification",
        "DistilBertForSequenceClassification",
        "ElectraForSequenceClassification",
        "ModernBertForSequenceClassification",
        "RobertaForSequenceClassification",
        "XLMRobertaForSequenceClassification",
    }
)
#: The class of models in several modules. sentence-transformers computes the last ones.
CLASS_IN_MODULES = "ModernBertModel"


def have_fast_path(models: Sequence[str]) -> bool:
    """Return whether our own networks are likely to compute these models."""
    return all(_classes(model) & {*CLASSES, CLASS_IN_MODULES} for model in models)


def need_no_libraries(models: Sequence[str]) -> bool:
    """Return whether our own networks are likely to compute these models without the libraries."""
    return all(_classes(model) & CLASSES for model in models)


def _classes(model: str) -> set[str]:
    """Return the classes in a model's configuration; none if it is not on this machine."""
    if is_stub(model):
        return set()
    # Loading reports what is wrong with the files.
    with suppress(UnusableModel, OSError, ValueError):
        if folder := model_paths.locate(model).folder():
            config = json.loads((folder / "config.json").read_text())
            classes = config.get("architectures") if isinstance(config, dict) else None
            return {name for name in classes or () if isinstance(name, str)}
    return set()
