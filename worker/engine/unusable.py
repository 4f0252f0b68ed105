"""Errors for models that cannot be used, with the name of the model and how to fix it."""

from __future__ import annotations

import textwrap

OTHER_MODEL = (
    "choose another model: CROSS_ENCODER_MODEL takes a local folder, a name on the Hugging Face hub"
    " or 'bundled' (a small model that ships with rerankq)"
)
#: Maximum characters to quote of another library's error: some list all known architectures.
REASON_CHARS = 400


class UnusableModel(ValueError):
    """A model that must not be used. The message names the fault and the fix."""

    def __init__(self, reason: str, way_out: str = OTHER_MODEL) -> None:
        super().__init__(f"{reason}. Way out: {way_out}")


def needs_code() -> UnusableModel:
    """Return the reason to reject a model that comes with its own code."""
    return UnusableModel(
        "it needs Python code that comes with it, and rerankq runs no code of a model"
    )


def unusable_message(model: str, error: Exception) -> str:
    """Return the message for a model that was found but cannot be used."""
    if isinstance(error, UnusableModel):
        return f"model {model!r} cannot be used: {error}"
    return f"model {model!r} cannot be used: {one_line(error)}. Way out: {OTHER_MODEL}"


def one_line(error: Exception) -> str:
    """Return the message of an error, shortened to one line."""
    return textwrap.shorten(str(error), REASON_CHARS, placeholder=" ...") or type(error).__name__
