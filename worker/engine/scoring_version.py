"""The version of the code that turns texts into scores, which caches of scores depend on."""

from __future__ import annotations

#: Increase it with every change of the code that changes scores by more than instruction sets do:
#: of tokenizing, truncating, cutting into passages, the forward pass, or the output. Cached scores
#: of other versions are then never used. `tests/unit/test_scoring_version.py` fails if the scores
#: of fixed pairs change.
SCORING_VERSION = 1
