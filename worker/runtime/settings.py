"""Settings of a worker. Each has an environment variable: `RERANKQ_` and its name in capitals."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from celery.utils.sysinfo import cpu_budget
from pydantic import Field, model_validator

from contract.environment import Allowed
from contract.models import BUNDLED, KNOWN_MODELS, ModelName, is_stub
from contract.settings import LARGEST, TEN_YEARS_S, Settings
from worker.inprocess.settings import ModelSettings
from worker.runtime import gpus

#: Disables a setting that names a model.
NO_MODEL = "none"

LogFormat = Literal["text", "json"]


class WorkerSettings(ModelSettings, Settings):
    """The settings that only a worker needs. Frozen; read once, by `load`."""

    downgrade_model: Annotated[str, Allowed("the name of a model, or `none`")] = Field(
        KNOWN_MODELS[0],
        min_length=1,
        description="The smaller model that scores a job after the requested model ran out of"
        " memory or time, or its process was killed. Set it to `none` to disable downgrades. For"
        " `bundled` and `stub`, the default is that model itself.",
    )
    max_models: int = Field(
        3,
        ge=1,
        le=LARGEST,
        description="The maximum number of models that a child keeps in memory. If a job names"
        " another model, it takes the place of the one that jobs have used least recently. The"
        " default model and the downgrade model count, and always stay.",
    )
    soft_time_limit_s: int = Field(
        600,
        ge=1,
        le=TEN_YEARS_S,
        description="The time after which a worker stops an attempt at a job, in seconds. The job"
        " is then scored again, by the downgrade model.",
    )
    time_limit_s: int = Field(
        660,
        ge=1,
        le=TEN_YEARS_S,
        description="The time after which a worker kills the child that scores a job, in seconds."
        " It must be longer than `RERANKQ_SOFT_TIME_LIMIT_S`.",
    )
    max_attempts: int = Field(
        4,
        ge=1,
        le=LARGEST,
        description="How many times a job may start before it fails with `attempts_exhausted`.",
    )
    lease_s: float = Field(
        30.0,
        ge=0.3,
        le=TEN_YEARS_S,
        allow_inf_nan=False,
        description="How long a lease on a job lasts without renewal, in seconds. When it expires,"
        " the attempt counts as dead, and another attempt may start.",
    )
    sweep_every_s: float = Field(
        10.0,
        gt=0,
        le=TEN_YEARS_S,
        allow_inf_nan=False,
        description="How often a worker looks for jobs that lost their message or worker, in"
        " seconds.",
    )
    resend_after_s: float = Field(
        60.0,
        gt=0,
        le=TEN_YEARS_S,
        allow_inf_nan=False,
        description="How long a job may be without a message and without a lease before a worker"
        " sends its message again, in seconds.",
    )
    flower_open: bool = Field(
        False, description="Allows Flower to start without a login if set to `true`."
    )
    model_load_timeout_s: int = Field(
        300,
        ge=1,
        le=TEN_YEARS_S,
        description="How long a replacement child, or the process that loads the models for all"
        " children, may take to load them, in seconds.",
    )
    log_format: LogFormat = Field(
        "text",
        description="The format of the worker's log: `text` for lines of text, `json` for one JSON"
        " object per line. The option `--log-format` overrides it.",
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.soft_time_limit_s < self.time_limit_s < self.visibility_timeout_s:
            raise ValueError(
                f"RERANKQ_SOFT_TIME_LIMIT_S ({self.soft_time_limit_s}) must be less than"
                f" RERANKQ_TIME_LIMIT_S ({self.time_limit_s}), which must be less than"
                f" RERANKQ_VISIBILITY_TIMEOUT_S ({self.visibility_timeout_s}). Otherwise, messages"
                " would be delivered again while their jobs are still running"
            )
        return self

    @model_validator(mode="after")
    def _check_models_of_lengths(self) -> Self:
        usable = {ModelName.parse(model).base for model in (*self.models, *self.allowed_models)}
        for model in self.model_max_lengths:
            if ModelName.parse(model).base not in usable:
                raise ValueError(
                    f"RERANKQ_MODEL_MAX_LENGTHS names {model!r}, which is not a model of this"
                    " worker and is not in RERANKQ_ALLOWED_MODELS"
                )
        return self

    @model_validator(mode="after")
    def _check_room_for_models(self) -> Self:
        stay = set(self.models)
        if self.max_models < len(stay) or (
            self.max_models == len(stay) and not stay.issuperset(self.allowed_models)
        ):
            raise ValueError(
                f"RERANKQ_MAX_MODELS ({self.max_models}) leaves no room for a model that a job"
                f" names: {' and '.join(sorted(stay))} always stay. Raise it, or set"
                " RERANKQ_ALLOWED_MODELS to models that stay"
            )
        return self

    @property
    def downgrade_to(self) -> str | None:
        """The downgrade model, or None if there is none."""
        if self.downgrade_model == NO_MODEL:
            return None
        model = self.cross_encoder_model
        if (model == BUNDLED or is_stub(model)) and not self.downgrade_is_chosen:
            return model
        return self.downgrade_model

    @property
    def downgrade_is_chosen(self) -> bool:
        """Return whether the downgrade model was configured, rather than left at its default."""
        return "downgrade_model" in self.model_fields_set

    @property
    def allowed_are_chosen(self) -> bool:
        """Return whether the list of allowed models was configured and has other models."""
        is_chosen = "allowed_models" in self.model_fields_set
        return is_chosen and bool(set(self.allowed_models).difference(self.models))

    @property
    def models(self) -> list[str]:
        """The default model, and the downgrade model if there is one."""
        return [self.cross_encoder_model, *filter(None, (self.downgrade_to,))]

    @property
    def default_concurrency(self) -> int:
        """The number of children without `--concurrency`: two per GPU, else one per core.

        One per core, because a single thread never waits for another. If `threads` is set, as many
        children as there are cores for.
        """
        if self.device != "cpu":
            return gpus.children(self.device, gpus.of_this_machine(), cores())
        return max(1, cores() // (self.threads or 1))

    def threads_among(self, children: int) -> int:
        """Return the number of threads per child that score, for this number of children.

        One on a GPU, because it only starts work. More would take turns.
        """
        if self.device != "cpu":
            return self.threads or 1
        return self.threads or self.tokenizer_threads_among(children)

    def tokenizer_threads_among(self, children: int) -> int:
        """Return the number of threads per child of the tokenizers library."""
        return max(1, cores() // children)


def cores() -> int:
    """Return the number of cores this process may use, limited by its control group's quota."""
    return max(1, int(cpu_budget(use_cgroup_quota=True).count))
