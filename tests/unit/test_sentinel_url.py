"""The URL of a primary that Sentinel names: its two forms, its options, and what is refused."""

from __future__ import annotations

import os

import pytest
from kombu import Connection

from contract import names
from contract.errors import InvalidInput
from contract.sentinel_url import SentinelUrl
from contract.settings import Settings
from worker.runtime.celery_options import celery_options
from worker.runtime.settings import WorkerSettings

ONE_LIST = "sentinel://user:p%40ss@a:1,b:2,[::1]:3/4?master_name=main"
AS_CELERY = (
    "sentinel://user:p%40ss@a:1/4;sentinel://b:2/4;sentinel://user:p%40ss@[::1]:3?master_name=main"
)
PASSWORD = "hunter2"  # noqa: S105


def read(url: str) -> SentinelUrl:
    found = Settings.load(redis_url=url).redis_sentinel
    assert found is not None
    return found


@pytest.mark.parametrize(
    "url", [ONE_LIST, AS_CELERY, ONE_LIST.replace("sentinel://", "redis+sentinel://")]
)
def test_both_forms_name_the_sentinels_the_primary_and_its_login(url: str) -> None:
    found = read(url)

    assert found.sentinels == (("a", 1), ("b", 2), ("::1", 3))
    assert (found.master_name, found.database) == ("main", 4)
    assert (found.username, found.password) == ("user", "p@ss")
    assert found.tls is found.sentinel_tls is None


def test_what_is_left_out_has_redis_own_defaults() -> None:
    found = read("sentinel://a,b?master_name=main")

    assert found.sentinels == (("a", 26379), ("b", 26379))
    assert (found.database, found.username, found.password) == (0, None, None)


def test_the_sentinels_have_their_own_login_and_the_tls_of_redis() -> None:
    login = "sentinel_username=watcher&sentinel_password=a%26b%20+c"
    found = read(f"sentinel://:x@a/0?master_name=main&{login}&ssl=true&ssl_check_hostname=false")

    options = found.connection_options
    assert (options["username"], options["password"]) == ("watcher", "a&b +c")
    assert options["ssl"] is True
    assert options["ssl_check_hostname"] is False
    assert found.tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": False}


def test_tls_can_be_for_redis_alone_or_for_the_sentinels_alone() -> None:
    url = "sentinel://a/0?master_name=main"
    assert read(f"{url}&ssl=true&sentinel_ssl=false").sentinel_tls is None
    assert read(f"{url}&ssl=true&sentinel_ssl=false").tls is not None
    assert read(f"{url}&sentinel_ssl=true&ssl_cert_reqs=none").sentinel_tls == {
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": True,
    }
    assert read(f"{url}&sentinel_ssl=true").tls is None


def test_celery_and_kombu_are_told_the_same() -> None:
    settings = WorkerSettings.load(
        redis_url=f"{ONE_LIST}&ssl=true&min_other_sentinels=1&sentinel_password={PASSWORD}"
    )
    options = celery_options(settings)
    shared = names.celery_options(settings)

    with Connection(shared["broker_url"], ssl=shared["broker_use_ssl"]) as connection:
        assert connection.transport_cls == "sentinel"
        assert (connection.hostname, connection.port) == ("a", 1)
        assert (connection.userid, connection.password) == ("user", "p@ss")
        assert connection.virtual_host == "4"
        assert connection.alt == shared["broker_url"].split(";")
    assert options["result_backend"] == shared["broker_url"]
    for transport in (options["broker_transport_options"], shared["broker_transport_options"]):
        assert transport["master_name"] == "main"
        assert transport["min_other_sentinels"] == 1
        assert transport["sentinel_kwargs"]["password"] == PASSWORD
    assert options["result_backend_transport_options"]["master_name"] == "main"


def test_the_location_has_all_sentinels_and_no_secret() -> None:
    url = f"sentinel://u:{PASSWORD}@a:1,[::1]/2?master_name=main&sentinel_password={PASSWORD}"
    settings = Settings.load(redis_url=url)

    assert settings.redis_location == "sentinel://a:1,[::1]:26379/2?master_name=main"
    assert PASSWORD not in f"{settings!r} {settings.redis_sentinel!r}"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sentinel://a:1", "must have the option master_name"),
        ("sentinel://a:1/0?master_name=", "must have the option master_name"),
        ("sentinel://a:1/0?master_name=a&master_name=b", "more than one master_name"),
        (f"sentinel://a:1/0?master_name=a&{PASSWORD}=1", "may have only the query options master"),
        ("sentinel://a:1/0?master_name=a&ssl=yes", "ssl must be true or false"),
        ("sentinel://a:1/0?master_name=a&ssl_cert_reqs=none", "requires TLS; add ssl=true"),
        ("sentinel://a:1/0?master_name=a&min_other_sentinels=x", "a whole number from 0"),
        ("sentinel://a:port/0?master_name=a", "no port from 0 to 65535"),
        ("sentinel://a:1,,b:2/0?master_name=a", "has no host"),
        ("sentinel://a:1/mymaster?master_name=a", "no database number"),
        ("sentinel://a:1/0;redis://b:2/0?master_name=a", "must have only sentinels"),
        (f"sentinel://:{PASSWORD}@a/0;sentinel://:x@b?master_name=a", "more than one login"),
        ("sentinel://a/0;sentinel://b/1?master_name=a", "more than one database"),
    ],
)
def test_what_cannot_be_used_is_named_without_a_secret(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        Settings.load(redis_url=url)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("mark", "/?#[℀:@%\n;,")
def test_a_password_that_breaks_the_url_is_in_no_message(mark: str) -> None:
    url = f"sentinel://name:hidden{mark}secret@host:1/0?master_name=a"
    try:
        told = Settings.load(redis_url=url).redis_location
    except InvalidInput as error:
        told = f"{error} {error.__cause__} {error.__context__}"
    assert "hidden" not in told
    assert "secret" not in told


def test_files_for_tls_are_checked_when_the_settings_are_read() -> None:
    url = f"sentinel://a/0?master_name=a&ssl=true&ssl_ca_certs={os.devnull}"
    with pytest.raises(InvalidInput, match=r"ssl_ca_certs: .* has no certificate"):
        Settings.load(redis_url=url)


def test_waiting_for_replicas_ends_before_the_timeout_of_redis() -> None:
    with pytest.raises(InvalidInput, match=r"RERANKQ_WAIT_TIMEOUT_S .* must be less than"):
        Settings.load(wait_replicas=1, wait_timeout_s=5)
