"""Why a model cannot be served, in words that name it and the way out."""

from __future__ import annotations

import textwrap

OTHER_MODEL = (
    "choose another model: CROSS_ENCODER_MODEL takes a local folder, a name on the Hugging Face hub"
    " or 'bundled' (a small model that ships with rerankq)"
)
#: Of a foreign error in a message: some list all architectures there are.
REASON_CHARS = 400


class UnusableModel(ValueError):
    """A model that must not be served: what is wrong with it, and the way out."""

    def __init__(self, reason: str, way_out: str = OTHER_MODEL) -> None:
        super().__init__(f"{reason}. Way out: {way_out}")


def needs_code() -> UnusableModel:
    """Return the reason for a model with code of its own."""
    return UnusableModel(
        "it needs Python code that comes with it, and rerankq runs no code of a model"
    )


def unusable_message(model: str, error: Exception) -> str:
    """Return the message for a model that was found and cannot be served."""
    if isinstance(error, UnusableModel):
        return f"model {model!r} cannot be used: {error}"
    return f"model {model!r} cannot be used: {one_line(error)}. Way out: {OTHER_MODEL}"


def one_line(error: Exception) -> str:
    """Return what an error says, shortened to one line."""
    return textwrap.shorten(str(error), REASON_CHARS, placeholder=" ...") or type(error).__name__
