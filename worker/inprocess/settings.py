"""Settings of how models are run, each with an environment variable: `RERANKQ_` and its name."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from contract.settings import LARGEST, EnvironmentSettings


class ModelSettings(EnvironmentSettings):
    """How models are run: all that a program which scores in its own process needs to know."""

    #: cpu, cuda, cuda:N or mps. Nothing is guessed: a missing GPU is an error, not a crawl.
    device: str = Field(
        "cpu", pattern=r"^(cpu|cuda(:\d+)?|mps)$", description="cpu, cuda, cuda:N or mps"
    )
    #: Of one child; None shares the cores out among the children.
    threads: int | None = Field(None, ge=1, le=1024)
    #: Of a batch, together; None finds the fastest number by measuring.
    max_batch_tokens: int | None = Field(None, ge=1, le=LARGEST)
    #: Tokens of a pair that are read at most; None reads as many as the model allows.
    max_length: int | None = Field(None, ge=8, le=LARGEST)
    #: Of the weights; None is float32, and float16 on CUDA. int8 is asked for by a model's name.
    dtype: Literal["float32", "float16", "bfloat16"] | None = None

    @model_validator(mode="after")
    def _check_dtype(self) -> Self:
        if self.device == "cpu" and self.dtype not in (None, "float32"):
            raise ValueError(
                f"RERANKQ_DTYPE={self.dtype} is several times slower than float32 on a CPU: it is"
                " for a GPU (RERANKQ_DEVICE=cuda); faster on a CPU is MODEL@int8"
            )
        return self
