"""Each limit allows what reaches it and refuses one more; a wrong setting names its variable."""

from __future__ import annotations

from typing import Any

import pytest

from contract import jobs, limits
from contract.errors import InvalidInput, LimitExceeded, ModelNotAllowed
from contract.settings import DEFAULT_MODEL, KNOWN_MODELS, Settings


def load(**overrides: Any) -> Settings:
    settings: Settings = Settings.load(**overrides)
    return settings


def job(*, query: str = "q", texts: tuple[str, ...] = ("d",), **changes: Any) -> jobs.Job:
    candidates = [{"id": str(place), "text": text} for place, text in enumerate(texts)]
    requests = [{"query": query, "candidates": candidates}]
    return jobs.parse(jobs.Job, {"id": "j1", "requests": requests, **changes})


def test_pairs_up_to_the_limit_are_allowed_and_one_more_is_not() -> None:
    settings = load(max_pairs_per_job=3)
    limits.check(job(texts=("a", "b", "c")), settings)
    with pytest.raises(LimitExceeded, match=r"j1 has 4 pairs, .* 3 .*RERANKQ_MAX_PAIRS_PER_JOB"):
        limits.check(job(texts=("a", "b", "c", "d")), settings)


def test_text_up_to_the_limit_is_allowed_and_one_more_character_is_not() -> None:
    settings = load(max_text_chars=4)
    limits.check(job(query="語" * 4, texts=("😀" * 4, "")), settings)
    with pytest.raises(LimitExceeded, match=r"the query has 5 .*RERANKQ_MAX_TEXT_CHARS"):
        limits.check(job(query="x" * 5), settings)
    with pytest.raises(LimitExceeded, match="document '1' has 5 characters"):
        limits.check(job(texts=("ok", "x" * 5)), settings)


@pytest.mark.parametrize("model", [None, "mine", "a", "b"])
def test_the_default_model_and_the_listed_ones_are_allowed(model: str | None) -> None:
    limits.check(job(model=model), load(cross_encoder_model="mine", allowed_models="a, b"))


def test_any_other_model_is_refused_with_those_that_are_allowed() -> None:
    settings = load(cross_encoder_model="mine", allowed_models="a,mine")
    with pytest.raises(ModelNotAllowed, match="'c' is not allowed; allowed are mine, a "):
        limits.check(job(model="c"), settings)


@pytest.mark.parametrize(
    ("default", "model", "allowed"),
    [
        pytest.param("mine", "mine@int8", True, id="the default in 8 bits"),
        pytest.param("mine@int8", "mine@int8", True, id="the default, which is in 8 bits"),
        pytest.param("mine@int8", "mine", True, id="the default in full"),
        pytest.param("mine", "listed@int8", True, id="a listed one in 8 bits"),
        pytest.param("mine", "small@int8", True, id="what is listed in 8 bits"),
        pytest.param("mine", "small", False, id="what is listed in 8 bits only, in full"),
        pytest.param("mine", "other@int8", False, id="another one in 8 bits"),
        pytest.param("mine", "mine@int4", False, id="bits that there are not"),
        pytest.param("mine", "mine@int8@int8", False, id="8 bits of 8 bits"),
        pytest.param("mine", "@int8", False, id="8 bits of nothing"),
    ],
)
def test_a_model_that_is_allowed_is_allowed_in_8_bits(
    default: str, model: str, allowed: bool
) -> None:
    settings = load(cross_encoder_model=default, allowed_models="listed,small@int8")
    assert settings.allows(model) is allowed


def test_a_model_in_8_bits_that_is_not_allowed_is_refused_by_its_full_name() -> None:
    with pytest.raises(ModelNotAllowed, match="'c@int8' is not allowed"):
        limits.check(job(model="c@int8"), load(cross_encoder_model="mine"))


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
    assert settings.allowed_models == ("a", "b")
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
    assert str(caught.value).startswith(f"setting {variable}: ")
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
    """What such a URL means is anybody's guess: part of the password may look like another part."""
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
