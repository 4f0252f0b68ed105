"""Over `rediss://`, each kind of client checks the server's certificate, and reports faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from contract import redis_tls
from contract.errors import InvalidInput, RedisUnavailable
from contract.settings import Settings
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.client.publishing import Publisher
from tests.integration.sample_records import DOCUMENTS, QUERY, job
from tests.redis_server import TlsServer, tls_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    with tls_server(tmp_path_factory.mktemp("tls")) as made:
        yield made


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """Run a server that requires client certificates."""
    with tls_server(tmp_path_factory.mktemp("asking"), ask_clients="yes") as made:
        yield made


def submit(settings: Settings) -> None:
    with RerankClient(settings) as client:
        job_id = client.submit(QUERY, DOCUMENTS)
        assert client.status(job_id).pairs == len(DOCUMENTS)
        assert client.cancel(job_id)
        assert client.workers(timeout_s=0.05) == ()


def submit_with_asyncio(settings: Settings) -> None:
    async def scenario() -> None:
        async with AsyncRerankClient(settings) as client:
            job_id = await client.submit(QUERY, DOCUMENTS)
            with pytest.raises(TimeoutError):
                await client.result(job_id, timeout=0.1)
            assert await client.cancel(job_id)

    asyncio.run(scenario())


def publish(settings: Settings) -> None:
    """Connect like Celery, which the clients do only after their own first exchange."""
    publisher = Publisher(settings)
    publisher.send(job(), 3)
    publisher.close()


def ask_workers(settings: Settings) -> None:
    publisher = Publisher(settings)
    assert publisher.workers(timeout_s=0.05) == ()
    publisher.close()


each_client = pytest.mark.parametrize("use", [submit, submit_with_asyncio, publish, ask_workers])
Use = Callable[[Settings], None]


@each_client
def test_a_server_whose_authority_is_named_is_trusted(server: TlsServer, use: Use) -> None:
    use(server.settings(ssl_ca_certs=server.authority))


@each_client
def test_a_server_of_an_unknown_authority_is_not_talked_to(server: TlsServer, use: Use) -> None:
    for settings in (server.settings(), server.settings(ssl_ca_certs=server.stranger)):
        with pytest.raises(RedisUnavailable) as refused:
            use(settings)
        assert f"rediss://localhost:{server.port}/0" in str(refused.value)
        assert "not trusted (self-signed certificate in certificate chain)" in str(refused.value)
        assert "?ssl_ca_certs=FILE" in str(refused.value)


@each_client
def test_a_server_with_the_certificate_of_another_host_is_not_talked_to(
    server: TlsServer, use: Use
) -> None:
    with pytest.raises(RedisUnavailable, match=r"not valid for '127\.0\.0\.1'") as refused:
        use(server.settings("127.0.0.1", ssl_ca_certs=server.authority))
    assert "must match the certificate" in str(refused.value)


@each_client
def test_what_the_url_says_is_not_checked_is_not(server: TlsServer, use: Use) -> None:
    use(server.settings("127.0.0.1", ssl_cert_reqs="none"))
    use(server.settings("127.0.0.1", ssl_ca_certs=server.authority, ssl_check_hostname="false"))
    with pytest.raises(RedisUnavailable, match="not trusted"):
        use(server.settings("127.0.0.1", ssl_check_hostname="false"))


@each_client
def test_a_server_that_asks_for_a_certificate_is_shown_ours(asking: TlsServer, use: Use) -> None:
    options: dict[str, Any] = {"ssl_ca_certs": asking.authority}
    use(asking.settings(**options, ssl_certfile=asking.certificate, ssl_keyfile=asking.key))


@each_client
def test_a_server_that_asks_in_vain_refuses(asking: TlsServer, use: Use) -> None:
    # The answer is lost if the server closes the connection before it is read.
    with pytest.raises(RedisUnavailable, match=r"TLS .*ssl_certfile=FILE|rediss://.*does not"):
        use(asking.settings(ssl_ca_certs=asking.authority))


@each_client
def test_a_server_without_tls_is_not_talked_to(settings: Settings, use: Use) -> None:
    with_tls = settings.redis_url.get_secret_value().replace("redis://", "rediss://")

    # The server waits for the rest of a command.
    with pytest.raises(RedisUnavailable, match=r"Redis at rediss://.* does not answer"):
        use(Settings.load(redis_url=with_tls, redis_timeout_s=0.5))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("ssl_ca_cert=/x", "may have only the query options ssl_ca_certs, "),
        ("ssl_ca_certs=/no/such/file", "ssl_ca_certs: cannot read '/no/such/file' .No such"),
        ("ssl_ca_certs=/tmp", "ssl_ca_certs: cannot read '/tmp' .Is a directory"),
        ("ssl_ca_certs={key}", "ssl_ca_certs: '.*client.key' has no certificate"),
        ("ssl_ca_certs=", "ssl_ca_certs must be the path of a file"),
        ("ssl_ca_certs={ca}&ssl_ca_certs={ca}", "ssl_ca_certs must be the path of a file"),
        ("ssl_certfile=/no/such/file", "ssl_certfile: cannot read '/no/such/file'"),
        ("ssl_certfile={ca}", "ssl_certfile: cannot use '.*ca.pem' with its key"),
        (
            "ssl_certfile={ca}&ssl_keyfile={key}",
            "ssl_certfile: cannot use .* with its key .*MISMATCH",
        ),
        ("ssl_keyfile={key}", "ssl_keyfile requires ssl_certfile"),
        ("ssl_cert_reqs=optional", "ssl_cert_reqs must be required or none"),
        ("ssl_cert_reqs=None", "ssl_cert_reqs must be required or none"),
        ("ssl_check_hostname=no", "ssl_check_hostname must be true or false"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_sent(
    server: TlsServer, query: str, message: str
) -> None:
    query = query.format(ca=server.authority, key=server.key)

    with pytest.raises(InvalidInput, match=f"RERANKQ_REDIS_URL: {message}"):
        Settings.load(redis_url=f"rediss://localhost/0?{query}")


def test_options_of_tls_are_refused_without_it() -> None:
    with pytest.raises(InvalidInput, match="ssl_cert_reqs requires TLS; use rediss://"):
        Settings.load(redis_url="redis://localhost/0?ssl_cert_reqs=none")


@pytest.mark.parametrize(
    "query", ["", "ssl_cert_reqs=none", "ssl_check_hostname=false", "ssl_ca_certs={ca}%20"]
)
def test_redis_py_and_celery_are_told_the_same(server: TlsServer, query: str) -> None:
    """Compare both clients: one reads the URL itself, the other uses our settings."""
    spaced = server.authority.with_name("ca.pem ")
    spaced.write_bytes(server.authority.read_bytes())
    url = f"rediss://localhost/0?{query.format(ca=server.authority)}"
    ours = redis_tls.options(Settings.load(redis_url=url).redis_url.get_secret_value())

    connection = redis.Redis.from_url(url).connection_pool.make_connection()

    theirs = redis.connection.SSLConnection(**(ours or {}))
    for name in ("cert_reqs", "check_hostname", "ca_certs", "certfile", "keyfile"):
        assert getattr(connection, name) == getattr(theirs, name)
