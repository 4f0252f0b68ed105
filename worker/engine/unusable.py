"""Errors for models that cannot be used, with the name of the model and how to fix it."""

from __future__ import annotations

import textwrap

from contract.printable import reason_of

OTHER_MODEL = (
    "Set CROSS_ENCODER_MODEL to another model: a local folder, a name on the Hugging Face hub, or"
    " 'bundled' (a small model that ships with rerankq)"
)
#: Maximum characters to quote of another library's error: some list all known architectures.
REASON_CHARS = 400


class UnusableModel(ValueError):
    """A model that must not be used. The message names the fault and the fix."""

    def __init__(self, reason: str, fix: str = OTHER_MODEL) -> None:
        super().__init__(f"{reason}. {fix}")


def needs_code() -> UnusableModel:
    """Return the reason to reject a model that comes with its own code."""
    return UnusableModel(
        "it requires its own Python code, and rerankq does not run code from a model"
    )


def takes_no_prompt() -> UnusableModel:
    """Return the reason to reject a prompt for a model that would not read it as intended."""
    return UnusableModel(
        "it takes no prompt: its chat template has no room for one, and it was saved without one",
        "Unset RERANKQ_PROMPT, or set CROSS_ENCODER_MODEL to a model that takes a prompt",
    )


def unusable_message(model: str, error: Exception) -> str:
    """Return the message for a model that was found but cannot be used."""
    if isinstance(error, UnusableModel):
        return f"model {model!r} cannot be used: {error}"
    return f"model {model!r} cannot be used: {one_line(error)}. {OTHER_MODEL}"


def one_line(error: Exception) -> str:
    """Return the message of an error, shortened to one line without a period."""
    text = textwrap.shorten(reason_of(error), REASON_CHARS, placeholder=" ...")
    return text.removesuffix(".")
