"""Token limits of models, and token counts of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from sentence_transformers import CrossEncoder
from torch import nn

from contract.printable import counted
from worker.engine.prompts import default_prompt, has_chat_template, token_ids
from worker.engine.unusable import UnusableModel

#: Maximum tokens of a pair if the model states no limit (T5 has relative positions).
DEFAULT_MAX_LENGTH = 512
#: Tokenizers represent "no limit" as 1e30. No model reads this many tokens.
NO_LIMIT = 10**9


def set_max_length(encoder: CrossEncoder, at_most: int | None = None) -> None:
    """Set how many tokens of a pair the model reads: its limit, or `at_most` if that is lower.

    Raises `UnusableModel` if the model has no room for a pair.
    """
    tokenizer = encoder.tokenizer
    positions = position_limit(encoder)
    own = _own_limit(encoder)
    if at_most is not None:
        limit = min(at_most, positions or at_most)
    else:
        limit = min((each for each in (own, positions) if each), default=DEFAULT_MAX_LENGTH)
    # A `max_length` in the model's own settings applies too.
    limit = min(limit, _configured_limit(encoder) or limit)
    least = untruncated_lengths(encoder, [("a", "b")])[0]
    if limit < least:
        raise UnusableModel(
            f"its maximum length is {counted(limit, 'token')}, but the shortest pair has {least}",
            "Correct model_max_length in tokenizer_config.json, or raise RERANKQ_MAX_LENGTH",
        )
    tokenizer.model_max_length = limit
    _check_truncation(encoder, limit)


def position_limit(encoder: CrossEncoder) -> int | None:
    """Return the number of tokens that the model has positions for, or None if it has no limit."""
    limits = []
    stated = getattr(encoder.model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(stated, int) and stated > 0:  # XLNet says -1 for "no limit"
        limits.append(stated)
    for name, module in encoder.model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and related models number positions from the padding id + 1.
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - unused)
    return min(limits, default=None)


def untruncated_lengths(encoder: CrossEncoder, pairs: Sequence[tuple[str, str]]) -> list[int]:
    """Return the number of tokens of each pair before truncation, as the model would read it.

    Includes a default prompt, a chat template and special tokens.
    """
    read = token_ids(encoder, pairs, default_prompt(encoder), truncation=False)
    return [len(ids) for ids in read]


def _own_limit(encoder: CrossEncoder) -> int | None:
    """Return the limit that the tokenizer states, or None if it states none."""
    stated = encoder.tokenizer.model_max_length
    return int(stated) if stated is not None and stated < NO_LIMIT else None


def _configured_limit(encoder: CrossEncoder) -> int | None:
    """Return the `max_length` in the `processing_kwargs` that the model was saved with."""
    settings: dict[str, Any] = getattr(encoder[0], "processing_kwargs", {})
    stated = [
        settings.get(part, {}).get("max_length") for part in ("chat_template", "text", "common")
    ]
    return min((each for each in stated if isinstance(each, int)), default=None)


def _check_truncation(encoder: CrossEncoder, limit: int) -> None:
    """Raise `UnusableModel` unless the model truncates long pairs to the limit."""
    prompt = default_prompt(encoder)
    (read,) = token_ids(encoder, [("a", " a" * (limit + 8))], prompt)
    if len(read) > limit:
        raise UnusableModel(
            f"its maximum length is {limit} tokens, but it truncates longer pairs to {len(read)}",
            "Correct the truncation settings in sentence_bert_config.json",
        )
    if has_chat_template(encoder):
        one, other = token_ids(encoder, [("a", "a"), ("a", "b b")], prompt, truncation=False)
        ending = _common_ending(one, other)
        if read[len(read) - len(ending) :] != ending:
            raise UnusableModel(
                "it truncates long pairs with the end of its chat template, which it has to read",
                "Remove restore_suffix from processing_kwargs in sentence_bert_config.json",
            )


def _common_ending(one: list[int], other: list[int]) -> list[int]:
    same = takewhile(
        lambda ids: ids[0] == ids[1], zip(reversed(one), reversed(other), strict=False)
    )
    length = len(list(same))
    return one[len(one) - length :]
