"""The tokens of many pairs as columns, without an object for each pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class PairColumns:
    """The token ids of pairs after truncation, without special tokens."""

    #: The ids of each text, as the bytes of int32.
    queries: list[bytes]
    documents: list[bytes]
    #: Tokens of each query, and of each pair including special tokens.
    query_lengths: Numbers
    lengths: Numbers
    #: About how many tokens of each pair are not read, because it is too long.
    lost: Numbers

    def __len__(self) -> int:
        return len(self.lengths)
