"""Settings of a worker, each with an environment variable: `RERANKQ_` and its name in capitals."""

from __future__ import annotations

from typing import Literal, Self

from celery.utils.sysinfo import cpu_budget
from pydantic import Field, model_validator

from contract.models import BUNDLED, KNOWN_MODELS, is_stub
from contract.settings import LARGEST, TEN_YEARS_S, Settings
from worker.inprocess.settings import ModelSettings

#: Where a model is named, for none.
NO_MODEL = "none"

LogFormat = Literal["text", "json"]


class WorkerSettings(ModelSettings, Settings):
    """What only a worker needs to know. Frozen; read once, by `load`."""

    #: Scores a job that the model asked for could not, for lack of memory or time; `none` for no
    #: such model. Unless it is set: TinyBERT; for the bundled model (as small) and for a stub that
    #: itself.
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
        model = self.cross_encoder_model
        if (model == BUNDLED or is_stub(model)) and not self.downgrade_is_chosen:
            return model
        return self.downgrade_model

    @property
    def downgrade_is_chosen(self) -> bool:
        """Whether the downgrade model was set, and is no mere default."""
        return "downgrade_model" in self.model_fields_set

    @property
    def models(self) -> list[str]:
        """The default model, and the downgrade model if there is to be one."""
        return [self.cross_encoder_model, *filter(None, (self.downgrade_to,))]

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
