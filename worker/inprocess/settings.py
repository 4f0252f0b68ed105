"""Settings for running models. Each has an environment variable: `RERANKQ_` and its name."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from contract.environment import Allowed
from contract.settings import LARGEST, EnvironmentSettings


class ModelSettings(EnvironmentSettings):
    """The settings of a program that runs models in its own process."""

    # The device is not detected, so that a missing GPU is an error, and not a slow run on the CPU.
    device: Annotated[str, Allowed("cpu, cuda, cuda:N or mps")] = Field(
        "cpu",
        pattern=r"^(cpu|cuda(:\d+)?|mps)$",
        description="The device that scores: `cpu`, `cuda`, `cuda:N` or `mps`. If the device is"
        " missing, the worker does not start.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="The number of threads in each worker child. By default, the children share the"
        " available cores.",
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
    dtype: Literal["float32", "float16", "bfloat16"] | None = Field(
        None,
        description="The data type of the weights: `float32`, `float16` or `bfloat16`. The default"
        " is `float32`, and `float16` on CUDA. For 8-bit weights, append `@int8` to the model's"
        " name.",
    )

    @model_validator(mode="after")
    def _check_dtype(self) -> Self:
        if self.device == "cpu" and self.dtype not in (None, "float32"):
            raise ValueError(
                f"RERANKQ_DTYPE={self.dtype} is several times slower than float32 on a CPU. Use it"
                " on a GPU (RERANKQ_DEVICE=cuda). To speed up a CPU, append @int8 to the model's"
                " name"
            )
        return self
