"""Define what a model family is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.engine.layers import Network
from worker.engine.linear import Linear


@dataclass(frozen=True)
class Family:
    """Models that one network computes.

    `supports` returns whether a model of one of the `classes` of transformers is of this family.
    `network` returns its network, with linear layers of the kind that is passed.
    """

    classes: tuple[type, ...]
    supports: Callable[[Any], bool]
    network: Callable[[Any, type[Linear]], Network]
