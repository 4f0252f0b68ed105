"""Settings for running models. Each has an environment variable: `RERANKQ_` and its name."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from contract.environment import Allowed
from contract.models import ModelName
from contract.settings import LARGEST, EnvironmentSettings

#: The maximum length of a pair in tokens.
MaxLength = Annotated[int, Field(ge=8, le=LARGEST)]
#: Maximum characters of a prompt. It is a part of every result.
PROMPT_CHARS = 10_000


class ModelSettings(EnvironmentSettings):
    """The settings of a program that runs models in its own process."""

    # The device is not detected, so that a missing GPU is an error, and not a slow run on the CPU.
    device: Annotated[str, Allowed("cpu, cuda, cuda:N or mps")] = Field(
        "cpu",
        pattern=r"^(cpu|cuda(:\d+)?|mps)$",
        description="The device that scores: `cpu`, `cuda`, `cuda:N` or `mps`. With `cuda`, the"
        " children of a worker take all GPUs in turn. If the device is missing, the worker does not"
        " start.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="The number of threads in each worker child. By default, the children share the"
        " available cores, and each has one thread on a GPU.",
    )
    max_batch_tokens: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="The maximum number of tokens in a batch. By default, the worker measures the"
        " fastest number when it starts.",
    )
    max_length: int | None = Field(
        None,
        ge=8,
        le=LARGEST,
        description="The maximum number of tokens that the model reads from a pair. By default, it"
        " reads as many as the model allows.",
    )
    model_max_lengths: Annotated[
        dict[Annotated[str, Field(min_length=1)], MaxLength],
        NoDecode,
        Allowed("MODEL=NUMBER,MODEL=NUMBER with numbers of tokens, at least 8"),
    ] = Field(
        {},
        description="The same for single models, as `MODEL=NUMBER,MODEL=NUMBER`. A name without a"
        " revision includes those with one. A model that does not allow its number is"
        " refused.",
    )
    prompt: str | None = Field(
        None,
        min_length=1,
        max_length=PROMPT_CHARS,
        description="An instruction that the model of `CROSS_ENCODER_MODEL` reads with each pair."
        " It replaces the one that the model was saved with. Only some models take one.",
    )
    dtype: Literal["float32", "float16", "bfloat16"] | None = Field(
        None,
        description="The data type of the weights: `float32`, `float16` or `bfloat16`. The default"
        " is `float32`, and on CUDA `float16` or `bfloat16`.",
    )

    @field_validator("model_max_lengths", mode="before")
    @classmethod
    def _split_lengths(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        # The name of a stub may contain an equals sign.
        pairs = [each.rpartition("=") for each in value.split(",") if each.strip()]
        return {name.strip(): number.strip() for name, _, number in pairs}

    def own_max_length(self, model: str) -> int | None:
        """Return the maximum length that was set for this model, or None."""
        forms = (model, ModelName.parse(model).base)
        lengths = (self.model_max_lengths.get(form) for form in forms)
        return next(filter(None, lengths), None)

    @model_validator(mode="after")
    def _check_dtype(self) -> Self:
        if self.device == "cpu" and self.dtype not in (None, "float32"):
            raise ValueError(
                f"RERANKQ_DTYPE={self.dtype} is several times slower than float32 on a CPU. Use it"
                " on a GPU (RERANKQ_DEVICE=cuda)"
            )
        return self
