"""Settings of a worker, each with an environment variable: `RERANKQ_` and its name in capitals."""

from __future__ import annotations

from typing import Literal, Self

from celery.utils.sysinfo import cpu_budget
from pydantic import Field, model_validator

from contract.settings import KNOWN_MODELS, LARGEST, TEN_YEARS_S, EnvironmentSettings, Settings

#: Where a model is named, for none.
NO_MODEL = "none"

LogFormat = Literal["text", "json"]


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


class WorkerSettings(ModelSettings, Settings):
    """What only a worker needs to know. Frozen; read once, by `load`."""

    #: Scores a job that the model asked for could not, for lack of memory or time; `none` for no
    #: such model. Unless it is set: TinyBERT, for the bundled model (as small) that itself.
    downgrade_model: str = Field(
        KNOWN_MODELS[0], min_length=1, description="the name of a model, or `none`"
    )
    #: A job is ended in Python after this time, and its child is killed after the next.
    soft_time_limit_s: int = Field(600, ge=1, le=TEN_YEARS_S)
    time_limit_s: int = Field(660, ge=1, le=TEN_YEARS_S)
    #: A job that was started this often without coming to an end is given up.
    max_attempts: int = Field(4, ge=1, le=LARGEST)
    #: An attempt that is not heard of for so long has died, and another may begin.
    lease_s: float = Field(30.0, ge=0.3, le=TEN_YEARS_S, allow_inf_nan=False)
    #: How often a worker looks for jobs whose messages or workers are lost, and after what time
    #: their messages are sent again.
    sweep_every_s: float = Field(10.0, gt=0, le=TEN_YEARS_S, allow_inf_nan=False)
    resend_after_s: float = Field(60.0, gt=0, le=TEN_YEARS_S, allow_inf_nan=False)
    #: Whether Flower may start without a login.
    flower_open: bool = False
    #: For a child that replaces another, until it has loaded its models.
    model_load_timeout_s: int = Field(300, ge=1, le=TEN_YEARS_S)
    #: Lines for people, or JSON objects; the worker's option --log-format wins.
    log_format: LogFormat = "text"

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.soft_time_limit_s < self.time_limit_s < self.visibility_timeout_s:
            raise ValueError(
                "RERANKQ_SOFT_TIME_LIMIT_S < RERANKQ_TIME_LIMIT_S < RERANKQ_VISIBILITY_TIMEOUT_S"
                f" does not hold ({self.soft_time_limit_s}, {self.time_limit_s} and"
                f" {self.visibility_timeout_s} s): raise the last, or lower the others, because a"
                " message must not be delivered again while its job may still run"
            )
        return self

    @property
    def downgrade_to(self) -> str | None:
        """The downgrade model, if there is to be one."""
        if self.downgrade_model == NO_MODEL:
            return None
        if self.cross_encoder_model == "bundled" and not self.downgrade_is_chosen:
            return self.cross_encoder_model
        return self.downgrade_model

    @property
    def downgrade_is_chosen(self) -> bool:
        """Whether the downgrade model was set, and is no mere default."""
        return "downgrade_model" in self.model_fields_set

    @property
    def default_concurrency(self) -> int:
        """Children of a worker that is not told with `--concurrency`: one a GPU, or one a core.

        A core each, because one thread never waits for another; with `threads` set, as many
        children as that leaves cores for.
        """
        if self.device != "cpu":
            return 1
        return max(1, cores() // (self.threads or 1))

    def threads_among(self, children: int) -> int:
        """Threads of each of so many children."""
        return self.threads or max(1, cores() // children)


def cores() -> int:
    """Processor cores this process may use, its control group's quota included."""
    return max(1, int(cpu_budget(use_cgroup_quota=True).count))
