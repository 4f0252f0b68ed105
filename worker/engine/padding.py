"""Padding tokens, and a check that padding does not change a score."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sentence_transformers import CrossEncoder

from contract.printable import reason_of
from worker.engine import memory
from worker.engine.unusable import UnusableModel


def ensure_padding_token(encoder: CrossEncoder) -> None:
    """Ensure that a tokenizer has a padding token; use its end-of-text token if it has none.

    Raises `UnusableModel` if it has neither.
    """
    tokenizer = encoder.tokenizer
    if tokenizer is None:
        raise UnusableModel("it cannot read text: it has no tokenizer")
    if tokenizer.pad_token_id is not None:
        return
    if tokenizer.eos_token_id is None:
        raise UnusableModel(
            "its tokenizer has neither a padding token nor an end-of-text token",
            "Set pad_token in tokenizer_config.json",
        )
    tokenizer.pad_token = tokenizer.eos_token


def find_dependence(
    encoder: CrossEncoder,
    pairs: list[tuple[str, str]],
    score: Callable[[list[tuple[str, str]]], npt.NDArray[np.float32]],
    tolerance: float,
) -> str | None:
    """Return how scores in one batch differ from those of each pair alone; None if they agree.

    Classifiers made from decoders find the last token of a pair, the one before the padding, by the
    padding token in their configuration. This sets it to the tokenizer's, and restores it if the
    scores still differ.
    """
    # Alone first: without a padding token in the configuration, the last token is read correctly.
    alone = np.concatenate([score([pair]) for pair in pairs])
    config = encoder.model.config.get_text_config()
    before = config.pad_token_id
    config.pad_token_id = encoder.tokenizer.pad_token_id
    try:
        together = score(pairs)
    except Exception as error:
        if memory.ran_out(error):
            raise
        why = reason_of(error)
    else:
        apart = float(np.max(np.abs(together - alone)))
        if apart <= tolerance * max(1.0, float(np.max(np.abs(alone)))):
            return None
        why = f"its scores differ by {apart:.1e}"
    config.pad_token_id = before
    return why
