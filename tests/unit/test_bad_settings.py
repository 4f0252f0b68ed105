"""An invalid setting is one line: its variable, the allowed values, its value unless secret."""

from __future__ import annotations

import re

import pytest

from contract.errors import InvalidInput
from contract.settings import Settings
from worker.runtime.settings import WorkerSettings

URL, PASSWORD = "RERANKQ_REDIS_URL", "hunter2"
ENCODE = "percent-encode"

URLS = [
    (f"redis://:{PASSWORD}#x@host:6379/0", ENCODE),
    (f"redis://:{PASSWORD}/x@host:6379/0", ENCODE),
    (f"redis://:{PASSWORD}:x@host:6379/0", ENCODE),
    (f"redis://:{PASSWORD}@x@host:6379/0", ENCODE),
    (f"redis://:{PASSWORD}%x@host:6379/0", ENCODE),
    (f"redis://:{PASSWORD}?x@host:6379/0", ENCODE),
    (f"redis://:{PASSWORD}[x@host:6379/0", ENCODE),
    (f"redis://:{PASSWORD}\\x@host:6379/0", ENCODE),
    (f"redis://:{PASSWORD} x@host:6379/0", ENCODE),
    (f"redis://:1/{PASSWORD}@host:6379/0", ENCODE),
    (f"redis://:{PASSWORD}", "no port"),
    (f"host:6379/{PASSWORD}", "begin with redis://"),
    (f"http://{PASSWORD}@host", "begin with redis://"),
    (f"unix://{PASSWORD}@/run/redis.sock", "Unix sockets"),
    ("redis+socket:///run/redis.sock", "Unix sockets"),
    ("redis-sentinel://host", "begin with redis://"),
    ("redis+cluster://host:6379/0", "Cluster is not supported.* a single server"),
    ("rediss+cluster://host:6379/0", "Cluster is not supported.* and Sentinel: sentinel://"),
    ("redis://host:port", "port"),
    ("redis://host:6379:6379", "colon"),
    ("redis://::1:6379/0", r"\[ \]"),
    ("redis://host:99999", "port"),
    ("redis://host:", "port"),
    ("redis://host/zero", "DATABASE"),
    ("redis://host/1/2", "DATABASE"),
    ("redis://", "host"),
    ("redis:///0", "host"),
    ("redis:host", "host"),
    ("  ", "empty"),
    ('"redis://host"', "quotation marks"),
    ("'redis://host'", "quotation marks"),
    ("redis://host/0?db=1", "ssl_ca_certs"),
]

NUMBERS = ["ten", "-1", "0", "9" * 40, "nan", "inf", "10s", "1GB", "1,000", "0x10", "\x1b[31m1"]
WHOLE = ["MAX_PAIRS_PER_JOB", "PAYLOAD_TTL_S", "VISIBILITY_TIMEOUT_S", "THREADS", "TIME_LIMIT_S"]
REAL = ["REDIS_TIMEOUT_S", "LEASE_S", "SWEEP_EVERY_S"]
WORDS = [
    ("RERANKQ_NAMESPACE", "a b", "letters, digits"),
    ("RERANKQ_NAMESPACE", "a\x1b[31m", "letters, digits"),
    ("CROSS_ENCODER_MODEL", " ", "bundled"),
    ("RERANKQ_DEVICE", "gpu", "cuda:N"),
    ("RERANKQ_DTYPE", "fp16", "'float16'"),
    ("RERANKQ_LOG_FORMAT", "yaml", "'json'"),
    ("RERANKQ_FLOWER_OPEN", "perhaps", "true or false"),
]


def refused(kind: type[Settings] = WorkerSettings) -> str:
    with pytest.raises(InvalidInput) as caught:
        kind.load()
    said = str(caught.value)
    assert said.isprintable()
    assert "pydantic" not in said
    assert "Input should" not in said
    return said


@pytest.mark.parametrize(("url", "way_out"), URLS)
@pytest.mark.parametrize("kind", [Settings, WorkerSettings])
def test_an_unusable_redis_url_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, kind: type[Settings], url: str, way_out: str
) -> None:
    monkeypatch.setenv(URL, url)
    with pytest.raises(InvalidInput, match=rf"^invalid setting {URL}: .*{way_out}") as caught:
        kind.load()
    assert str(caught.value).isprintable()
    assert PASSWORD not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


@pytest.mark.parametrize(
    "url", [" redis://host:1/2\n", "\tredis://host:1/2 ", "redis://host:1/2\r\n"]
)
def test_white_space_around_a_redis_url_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv(URL, url)
    assert Settings.load().redis_url.get_secret_value() == "redis://host:1/2"


@pytest.mark.parametrize("url", ["redis://u:a%2Fb%23@host", "redis://:p%40@[::1]:6379/15", ""])
def test_a_percent_encoded_password_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(URL, url)
    assert Settings.load().redis_location.startswith("redis://")


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("name", WHOLE + REAL)
def test_an_invalid_number_is_named_with_the_allowed_values(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"RERANKQ_{name}", value)
    said = refused()
    kind = "a whole number" if name in WHOLE else "a number"
    assert said.startswith(f"invalid setting RERANKQ_{name}: must be {kind}")
    assert "(got '" in said
    assert len(said) < 200


@pytest.mark.parametrize(("variable", "value", "allowed"), WORDS)
def test_an_invalid_word_is_named_with_the_allowed_values(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)
    said = refused()
    assert said.startswith(f"invalid setting {variable}: must be ")
    assert allowed in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"redis_url": 5}, "invalid setting RERANKQ_REDIS_URL: must be a string"),
        ({"allowed_models": 5}, "invalid setting RERANKQ_ALLOWED_MODELS: must be a list"),
        ({"threads": [1]}, "invalid setting RERANKQ_THREADS: must be a whole number"),
        ({"thread": 1}, "unknown setting RERANKQ_THREAD; did you mean RERANKQ_THREADS?"),
    ],
)
def test_a_wrong_argument_is_reported_in_the_same_way(given: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{re.escape(said)}") as caught:
        WorkerSettings.load(**given)
    assert "Input should" not in str(caught.value)


def test_time_limits_in_the_wrong_order_are_named_with_their_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RERANKQ_VISIBILITY_TIMEOUT_S", "300")
    said = refused()
    assert "RERANKQ_VISIBILITY_TIMEOUT_S" in said
    assert "(660), which must be less than RERANKQ_VISIBILITY_TIMEOUT_S (300)" in said
