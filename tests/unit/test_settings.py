"""A setting comes from its environment variable; an error names the variable, and no secret."""

from __future__ import annotations

from typing import Any

import pytest

from contract.errors import InvalidInput
from contract.models import DEFAULT_MODEL, KNOWN_MODELS
from contract.settings import Settings


def load(**overrides: Any) -> Settings:
    settings: Settings = Settings.load(**overrides)
    return settings


def test_without_an_environment_the_defaults_hold() -> None:
    settings = load()
    assert settings.cross_encoder_model == DEFAULT_MODEL
    assert settings.allowed_models == KNOWN_MODELS
    assert settings.redis_location == "redis://127.0.0.1:6379/0"


def test_every_setting_can_be_given_by_its_environment_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {
        "RERANKQ_REDIS_URL": "rediss://h:1/2",
        "RERANKQ_NAMESPACE": "n",
        "CROSS_ENCODER_MODEL": "mine",
        "RERANKQ_ALLOWED_MODELS": " a , ,b,",
        "RERANKQ_GROUP": "g",
    }
    numbers = [
        name for name, field in Settings.model_fields.items() if field.annotation in (int, float)
    ]
    given |= {f"RERANKQ_{name.upper()}": str(place) for place, name in enumerate(numbers, start=1)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert len(given) == len(Settings.model_fields)
    assert settings.redis_url.get_secret_value() == "rediss://h:1/2"
    assert (settings.namespace, settings.cross_encoder_model) == ("n", "mine")
    assert (settings.allowed_models, settings.group) == (("a", "b"), "g")
    assert [getattr(settings, name) for name in numbers] == list(range(1, len(numbers) + 1))


def test_a_keyword_wins_over_the_environment_unless_it_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RERANKQ_NAMESPACE", "of-the-environment")
    monkeypatch.setenv("CROSS_ENCODER_MODEL", "of-the-environment")
    settings = load(namespace="given", cross_encoder_model="given")
    assert (settings.namespace, settings.cross_encoder_model) == ("given", "given")
    assert load(namespace=None).namespace == "of-the-environment"


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load()
    for name in Settings.model_fields:
        monkeypatch.setenv(f"RERANKQ_{name.upper()}", "")
    monkeypatch.setenv("CROSS_ENCODER_MODEL", "")
    assert load() == before


@pytest.mark.parametrize("name", ["namespace", "redis_url", "cross_encoder_model"])
def test_a_setting_that_is_given_as_nothing_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"setting .*{name.upper()}: "):
        load(**{name: ""})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RERANKQ_MAX_PAIRS_PER_JOB", "many"),
        ("RERANKQ_MAX_PAIRS_PER_JOB", "0"),
        ("RERANKQ_MAX_BYTES_PER_JOB", "-1"),
        ("RERANKQ_MAX_TEXT_CHARS", "1.5"),
        ("RERANKQ_MAX_QUEUE_LENGTH", "0"),
        ("RERANKQ_MAX_REDIS_MEMORY_PERCENT", "0"),
        ("RERANKQ_MAX_REDIS_MEMORY_PERCENT", "101"),
        ("RERANKQ_REDIS_TIMEOUT_S", "0"),
        ("RERANKQ_REDIS_TIMEOUT_S", "nan"),
        ("RERANKQ_NAMESPACE", "a:b"),
        ("RERANKQ_NAMESPACE", "a b"),
        ("RERANKQ_NAMESPACE", "a\n"),
        ("RERANKQ_REDIS_URL", "localhost:6379"),
        ("RERANKQ_REDIS_URL", "http://localhost"),
        ("RERANKQ_REDIS_URL", "redis://localhost:port"),
        ("RERANKQ_REDIS_URL", "redis://localhost:99999"),
        ("RERANKQ_REDIS_URL", "redis://localhost/zero"),
        ("RERANKQ_REDIS_URL", "redis://localhost?socket_timeout=1"),
    ],
)
def test_a_variable_that_does_not_parse_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInput) as caught:
        load()
    assert str(caught.value).startswith(f"invalid setting {variable}: ")
    assert "\n" not in str(caught.value)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(InvalidInput, match="RERANKQ_REDIS"):
        load(redis="redis://localhost")


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("rediss://name:secret@host:7000/3?ssl_cert_reqs=none", "rediss://host:7000/3"),
        ("rediss://:secret@host", "rediss://host"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
    ],
)
def test_the_location_is_the_url_without_its_secrets(url: str, location: str) -> None:
    assert load(redis_url=url).redis_location == location


@pytest.mark.parametrize("mark", "/?#[℀:@%\n")
@pytest.mark.parametrize("begin", ["hidden", "1"])
def test_a_password_that_breaks_the_url_is_in_no_message(mark: str, begin: str) -> None:
    """Check URLs with several readings: part of the password may look like another part."""
    try:
        told = load(redis_url=f"redis://name:{begin}{mark}secret@host:6379/0").redis_location
    except InvalidInput as error:
        told = f"{error} {error.__cause__} {error.__context__}"
    assert "hidden" not in told
    assert "secret" not in told


def test_the_password_stands_neither_in_the_repr_nor_in_an_error_or_its_cause() -> None:
    assert "secret" not in repr(load(redis_url="redis://name:secret@host"))
    with pytest.raises(InvalidInput) as caught:
        load(redis_url="http://name:secret@host")
    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.__cause__)
