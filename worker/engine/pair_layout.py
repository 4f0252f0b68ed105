"""The tokens of a pair, and the special tokens around its texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class PairTokens:
    """The token ids of a pair after truncation, without special tokens."""

    query: Ids
    document: Ids
    #: About how many tokens were cut off.
    lost: int
    #: The number of special tokens around the texts: see `PairLayout`.
    special: int = 3

    @property
    def length(self) -> int:
        """The number of tokens of the pair, including special tokens."""
        return len(self.query) + len(self.document) + self.special


@dataclass(frozen=True)
class PairLayout:
    """The special tokens before, between and after the texts of a pair, and the padding's id.

    BERT has `[CLS] query [SEP] document [SEP]`, and RoBERTa `<s> query </s></s> document </s>`.
    """

    before: Ids
    between: Ids
    after: Ids
    padding_id: int

    @property
    def tokens(self) -> int:
        """The number of special tokens of a pair."""
        return len(self.before) + len(self.between) + len(self.after)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> PairLayout | None:
        """Return the layout of a tokenizer; None if it adds tokens elsewhere, or none in front."""
        encoding = tokenizer.backend_tokenizer.encode("a", "b")
        parts: dict[object, list[int]] = {}
        seen: list[int] = []
        for token_id, text in zip(encoding.ids, encoding.sequence_ids, strict=True):
            if text is not None and text not in seen:
                seen.append(text)
            elif text is None:
                parts.setdefault(len(seen), []).append(token_id)
        if seen != [0, 1] or not parts.get(0) or tokenizer.pad_token_id is None:
            return None
        before, between, after = (np.array(parts.get(at, []), np.int32) for at in range(3))
        return cls(before, between, after, tokenizer.pad_token_id)

    def padding(self, tokens: int) -> Ids:
        """Return this number of padding tokens."""
        return np.full(tokens, self.padding_id, np.int32)
