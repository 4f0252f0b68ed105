"""The settings that producers and workers share, and their environment variables.

`CROSS_ENCODER_MODEL` keeps its established name; all others begin with `RERANKQ_`.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contract import environment, redis_url, sentinel_url
from contract import redis_tls as tls
from contract.environment import Allowed
from contract.errors import InvalidInput
from contract.models import DEFAULT_MODEL, KNOWN_MODELS
from contract.records import JOB_ID
from contract.sentinel_url import SentinelUrl

#: Upper bounds: ten years in seconds, and the largest integer that all services accept.
TEN_YEARS_S = 10 * 365 * 24 * 3600
LARGEST = 2**31 - 1


class EnvironmentSettings(BaseSettings):
    """Settings that `load` reads from environment variables."""

    model_config = SettingsConfigDict(
        env_prefix="RERANKQ_",
        env_ignore_empty=True,
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    cross_encoder_model: Annotated[
        str, Allowed("the name of a model on the hub, a local folder, or `bundled`")
    ] = Field(
        DEFAULT_MODEL,
        min_length=1,
        validation_alias="CROSS_ENCODER_MODEL",
        description="The model that scores jobs that name no model: a name on the Hugging"
        " Face hub, a local folder, `bundled`, or `stub`. Append `@REVISION` to a name on the hub"
        " to pin it.",
    )

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment; keyword arguments that are not None take precedence.

        Raises `InvalidInput` with one line: the variable, its value unless it is a secret, and the
        allowed values.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise InvalidInput(environment.describe_error(cls, error.errors()[0])) from error


class Settings(EnvironmentSettings):
    """The settings on which producers and workers must agree."""

    #: Secret, because it may contain a password. The query of a rediss:// URL may contain the
    #: options of `contract.redis_tls`, and that of a sentinel:// URL those of
    #: `contract.sentinel_url`.
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="The Redis server and database. Use `rediss://` for TLS, and `sentinel://` for"
        " a primary that Sentinel names. In a password, percent-encode every character except"
        " letters and digits (`@` is `%40`). White space around the URL is ignored.",
    )
    namespace: Annotated[str, Allowed("1 to 64 letters, digits, dots, underscores or hyphens")] = (
        Field(
            "rerankq",
            pattern=r"^[A-Za-z0-9._-]{1,64}$",
            description="The prefix of every key in Redis, and the name of the queue. Two services"
            " with different namespaces can share one Redis.",
        )
    )
    allowed_models: Annotated[tuple[str, ...], NoDecode] = Field(
        KNOWN_MODELS,
        description="The models that a job may request in addition to the worker's own: hub names"
        " or local folders, separated by commas.",
    )

    # At ten pairs per second (long texts, six layers, one thread), this stays below the time limit.
    max_pairs_per_job: int = Field(
        5_000,
        ge=1,
        le=LARGEST,
        description="The maximum number of query-document pairs in a job. It also limits the number"
        " of JSON values in a job (ids, texts, scores, metadata) to 200 for each pair.",
    )
    max_bytes_per_job: int = Field(
        64 * 1024 * 1024,
        ge=1,
        le=LARGEST,
        description="The maximum size of a job as JSON, before compression.",
    )
    # Without passages, a model reads at most the first few thousand characters.
    max_text_chars: int = Field(
        1_000_000,
        ge=1,
        le=LARGEST,
        description="The maximum length of a query or a document, in characters.",
    )

    max_queue_length: int = Field(
        100_000,
        ge=1,
        le=LARGEST,
        description="The number of queued messages at which the service stops accepting jobs.",
    )
    max_redis_memory_percent: int = Field(
        80,
        ge=1,
        le=100,
        description="The percentage of Redis' `maxmemory` above which the service accepts no new"
        " jobs. It has no effect if Redis has no memory limit.",
    )

    group: Annotated[str | None, Allowed("the same characters as a job id")] = Field(
        None,
        pattern=f"^{JOB_ID.pattern}$",
        description="The group of the jobs that a client submits. Groups with bulk jobs in the"
        " queue take turns. By default, each client has its own.",
    )

    payload_ttl_s: int = Field(
        24 * 3600,
        ge=1,
        le=TEN_YEARS_S,
        description="How long Redis keeps the payload of a waiting job, in seconds.",
    )
    result_ttl_s: int = Field(
        24 * 3600,
        ge=1,
        le=TEN_YEARS_S,
        description="How long Redis keeps a result or failure, in seconds.",
    )
    job_ttl_s: int = Field(
        7 * 24 * 3600,
        ge=1,
        le=TEN_YEARS_S,
        description="How long Redis keeps the state of a job and its dead letter, in seconds. They"
        " are kept at least as long as the payload and the result.",
    )

    wait_replicas: int = Field(
        0,
        ge=0,
        le=100,
        description="The number of replicas that must acknowledge a job before its submission"
        " returns (`WAIT`). A failover to one of them does not lose the job. 0 does not wait.",
    )
    wait_timeout_s: float = Field(
        1.0,
        gt=0,
        le=60,
        allow_inf_nan=False,
        description="How long a submission waits for these replicas before it raises"
        " `NotReplicated`, in seconds.",
    )
    redis_timeout_s: float = Field(
        2.5,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="How long a producer waits for an answer from Redis before it raises"
        " `RedisUnavailable`, in seconds.",
    )
    redis_retry_s: float = Field(
        0.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="How long a producer repeats a call while Redis does not answer or accept it,"
        " in seconds from the first error. A failover takes seconds, so callers do not notice it"
        " with 30. 0 repeats nothing.",
    )
    visibility_timeout_s: int = Field(
        900,
        ge=1,
        le=TEN_YEARS_S,
        description="How long a message may stay unacknowledged before Celery delivers it again, in"
        " seconds. It must be greater than `RERANKQ_TIME_LIMIT_S`.",
    )

    @field_validator("redis_url")
    @classmethod
    def _check_url(cls, url: SecretStr) -> SecretStr:
        # A file with a secret usually ends in a newline.
        stripped = url.get_secret_value().strip()
        redis_url.check(stripped)
        return SecretStr(stripped)

    @field_validator("cross_encoder_model", mode="before")
    @classmethod
    def _strip(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value

    @field_validator("allowed_models", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @model_validator(mode="after")
    def _check_wait(self) -> Self:
        if self.wait_replicas and self.wait_timeout_s >= self.redis_timeout_s:
            raise ValueError(
                f"RERANKQ_WAIT_TIMEOUT_S ({self.wait_timeout_s:g}) must be less than"
                f" RERANKQ_REDIS_TIMEOUT_S ({self.redis_timeout_s:g}), because Redis does not"
                " answer while it waits for its replicas"
            )
        return self

    def with_redis_url(self, redis_url: str | None) -> Self:
        """Return the settings with `redis_url`, if it is given. Raises `InvalidInput`."""
        if redis_url is None:
            return self
        return self.load(**(self.model_dump() | {"redis_url": redis_url}))

    def with_group(self) -> Self:
        """Return the settings with a new group, unless they name one."""
        return self if self.group else self.model_copy(update={"group": uuid.uuid4().hex[:16]})

    @property
    def redis_sentinel(self) -> SentinelUrl | None:
        """Return the parts of a Sentinel URL; None for the URL of a server."""
        url = self.redis_url.get_secret_value()
        return sentinel_url.parse(url) if sentinel_url.matches(url) else None

    @property
    def redis_server(self) -> str:
        """Return the Redis URL for Celery, without its query; it may contain a password."""
        if (sentinel := self.redis_sentinel) is not None:
            return sentinel.for_celery
        return self.redis_url.get_secret_value().partition("?")[0]

    @property
    def redis_tls(self) -> dict[str, Any] | None:
        """Return the options of `contract.redis_tls` for the URL; None without TLS."""
        if (sentinel := self.redis_sentinel) is not None:
            return sentinel.tls
        return tls.options(self.redis_url.get_secret_value())

    @property
    def redis_location(self) -> str:
        """Return the Redis URL for messages, without user name, password and TLS options."""
        if (sentinel := self.redis_sentinel) is not None:
            return sentinel.location
        parts = urlsplit(self.redis_url.get_secret_value())
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def allows(self, model: str) -> bool:
        """Return whether a job may request `model`."""
        return model in (self.cross_encoder_model, *self.allowed_models)
