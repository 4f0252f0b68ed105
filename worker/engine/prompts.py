"""The prompt of a model: an instruction that it reads with each pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentence_transformers import CrossEncoder

from worker.engine.unusable import UnusableModel, takes_no_prompt

#: The name under which a prompt of our own is added to the model's.
OWN_PROMPT = "rerankq"
#: A pair, its text changed, and a prompt, to see what a model reads.
PAIR, OTHER_QUERY, OTHER_DOCUMENT = ("a", "b"), ("c d", "b"), ("a", "c d")
PROMPT = "d e"


def set_prompt(encoder: CrossEncoder, prompt: str | None) -> None:
    """Replace the model's prompt by `prompt`, unless it is None.

    Raises `UnusableModel` if the model takes none, or if its chat template has no room for a pair.
    """
    _check_template(encoder)
    if prompt is None:
        return
    if not _takes_prompt(encoder):
        raise takes_no_prompt()
    encoder.prompts = {**(encoder.prompts or {}), OWN_PROMPT: prompt}
    encoder.default_prompt_name = OWN_PROMPT


def default_prompt(encoder: CrossEncoder) -> str | None:
    """Return the prompt that the model reads with each pair, or None."""
    name = encoder.default_prompt_name
    return None if name is None else encoder.prompts.get(name)


def has_chat_template(encoder: CrossEncoder) -> bool:
    """Return whether the model reads a pair as messages, which a chat template turns into text."""
    return "message" in getattr(encoder[0], "modality_config", ())


def token_ids(
    encoder: CrossEncoder, pairs: Sequence[tuple[str, str]], prompt: str | None, **text: object
) -> list[list[int]]:
    """Return the ids of each pair with its prompt, chat template and special tokens.

    `text` are the settings of the tokenizer. There is no padding.
    """
    settings: dict[str, Any] = {
        "common": {"return_tensors": None},
        "text": {"padding": False, "verbose": False, **text},
        "chat_template": {"padding": False, **text},
    }
    encoded = encoder.preprocess(list(pairs), prompt=prompt, processing_kwargs=settings)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _takes_prompt(encoder: CrossEncoder) -> bool:
    """Return whether a prompt reaches the model as its author intended.

    sentence-transformers puts a prompt in front of the query of any other model, which has not been
    trained with one.
    """
    if not has_chat_template(encoder):
        return any((encoder.prompts or {}).values())
    try:
        with_prompt = token_ids(encoder, [PAIR], PROMPT)
    except Exception:  # noqa: BLE001  # a template may refuse the message of a prompt
        return False
    return with_prompt != token_ids(encoder, [PAIR], None)


def _check_template(encoder: CrossEncoder) -> None:
    """Raise `UnusableModel` if the chat template leaves out the query or the document."""
    if not has_chat_template(encoder):
        return
    try:
        read = token_ids(encoder, [PAIR, OTHER_QUERY, OTHER_DOCUMENT], default_prompt(encoder))
    except ValueError as error:  # sentence-transformers checks the template too
        raise _no_room_for_pairs() from error
    if read[0] in read[1:]:
        raise _no_room_for_pairs()


def _no_room_for_pairs() -> UnusableModel:
    return UnusableModel(
        "its chat template has no room for a query and a document",
        "Add a chat_template.jinja to its files that renders the messages of the roles 'query' and"
        " 'document', as its model card describes",
    )
