"""Settings of the HTTP service. Importing this module does not import FastAPI."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from contract.environment import Allowed
from contract.settings import LARGEST, Settings

#: The name of the worker's default model in requests, and in aliases.
DEFAULT = "default"


class HttpSettings(Settings):
    """The settings that only `rerankq serve` needs. Frozen; read once, by `load`."""

    http_token: SecretStr = Field(
        SecretStr(""),
        description="The bearer tokens that the HTTP service accepts, separated by commas."
        " With several, you can replace one without an interruption. With none, the service accepts"
        " every request, and listens on loopback addresses only.",
    )
    http_timeout_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="How long a request to the HTTP service waits for its result, in seconds. A"
        " caller shortens it with the header `Request-Timeout`.",
    )
    http_max_body_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        le=LARGEST,
        description="The maximum size of a request to the HTTP service, in bytes.",
    )
    http_max_waiting: int = Field(
        512,
        ge=1,
        le=100_000,
        description="The maximum number of requests that wait for a result in the HTTP service."
        " It refuses others with 429.",
    )
    http_no_worker_s: float = Field(
        5.0,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="How long a request waits, in seconds, before the HTTP service asks whether any"
        " worker is running. If none answers, the request ends with 503.",
    )
    http_model_aliases: Annotated[
        dict[str, str], NoDecode, Allowed("names and models, as `rerank-v3.5=default,fast=bundled`")
    ] = Field(
        {},
        validate_default=False,
        description="Additional names for models in requests to the HTTP service, as"
        " `NAME=MODEL,NAME=MODEL`. The model `default` is the workers' model. Use this setting for"
        " programs that send a name such as `rerank-v3.5`.",
    )
    http_access_log: Literal["off", "json"] = Field(
        "off",
        description="How the HTTP service logs requests: `off`, or `json` for one line per request."
        " Texts, tokens and queries are never logged.",
    )

    @field_validator("http_model_aliases", mode="before")
    @classmethod
    def _split_aliases(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [each.partition("=") for each in value.split(",") if each.strip()]
        made = {name.strip(): model.strip() for name, _, model in pairs}
        if "" in made or "" in made.values():
            raise ValueError("an alias has the form NAME=MODEL")
        return made

    @property
    def http_tokens(self) -> tuple[str, ...]:
        """Return the accepted tokens."""
        given = self.http_token.get_secret_value().split(",")
        return tuple(token.strip() for token in given if token.strip())
