"""Worker, Flower and commands follow the primary, over TLS and with users, also of the sentinels.

`tests/integration/test_failover.py` has the clients, and `tests/soak/failovers.py` many failovers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import trustme

from contract.errors import RedisUnavailable
from contract.redis_url import NO_CLUSTER
from contract.settings import Settings
from producer.cli.loopback import free_port
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from tests import acl
from tests.acceptance.conftest import environment_of
from tests.command_line import rerankq
from tests.embedded_redis import embedded_redis
from tests.flower_process import Flower
from tests.processes import celery, program, wait_until
from tests.sentinel_servers import MASTER, Replicated
from tests.stub_models import STUB
from tests.worker_process import LOSING_NO_TIME, Worker
from worker.runtime.exits import EXIT_CONFIG

T = TypeVar("T")

QUERY, DOCUMENTS = "edit mp3 tags", ["a mail client", "an editor for ID3 tags"]
#: The password of the sentinels' user for clients.
PASSWORD = "a-word-for-sentinels"  # noqa: S105
#: A worker connects again after at most this time.
WITHIN_S = 60.0


@dataclass(frozen=True)
class Service:
    """Servers, a worker and Flower."""

    servers: Replicated
    producer: Settings
    worker: Worker
    flower: Flower


def certificates(folder: Path) -> tuple[Path, dict[str, str]]:
    """Return the authority's certificate, and the configuration of servers."""
    authority = trustme.CA()
    mine = authority.issue_cert("127.0.0.1")
    ca, certificate, key = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
    authority.cert_pem.write_to_path(str(ca))
    mine.cert_chain_pems[0].write_to_path(str(certificate))
    mine.private_key_pem.write_to_path(str(key))
    return ca, {
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(ca),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }


def users(folder: Path) -> Path:
    """Return a file with the users that rerankq ships, also those of replicas and sentinels."""
    shipped = (acl.SHIPPED, acl.SHIPPED.with_name("sentinel.acl"))
    text = acl.with_passwords("".join(file.read_text() for file in shipped))
    text = text.replace(" +client|setinfo", "")  # Debian's Redis 7.0 lacks it
    file = folder / "users.acl"
    file.write_text(f"{text}user admin on >{acl.PASSWORD} ~* &* +@all\n")
    return file


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    folder = tmp_path_factory.mktemp("servers")
    ca, common = certificates(folder)
    ours = {
        "aclfile": str(users(folder)),
        "masteruser": "rerankq-replica",
        "masterauth": acl.PASSWORD,
    }
    theirs = {
        "requirepass": acl.PASSWORD,
        "user": f"watcher on >{PASSWORD} -@all +ping +sentinel|masters",
    }
    watched = {f"auth-user {MASTER}": "rerankq-sentinel", f"auth-pass {MASTER}": acl.PASSWORD}
    login = {"ssl": True, "ssl_ca_certs": str(ca), "password": acl.PASSWORD}
    with Replicated(
        folder,
        program("redis-server"),
        common=common,
        ours=ours,
        theirs=theirs,
        watched=watched,
        login=login,
        admin="admin",
        tls=True,
    ) as made:
        yield made


def settings_of(role: str, servers: Replicated) -> Settings:
    url = servers.url(
        f"rerankq-{role}:{acl.PASSWORD}@",
        ssl="true",
        ssl_ca_certs=servers.authority,
        sentinel_username="watcher",
        sentinel_password=PASSWORD,
    )
    return Settings.load(redis_url=url)


@pytest.fixture(scope="module")
def service(servers: Replicated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder, producer = tmp_path_factory.mktemp("worker"), settings_of("producer", servers)
    environment = LOSING_NO_TIME | {"CROSS_ENCODER_MODEL": STUB}
    with (
        Worker(settings_of("worker", servers), folder, environment, 1) as worker,
        Flower(settings_of("flower", servers), folder) as flower,
        RerankClient(producer) as client,
    ):
        wait_until(lambda: bool(client.workers(0.5, at_most=1)), "a worker answers")
        yield Service(servers, producer, worker, flower)
        assert worker.alive, worker.log.read_text()
    for log in (worker.log, flower.log):
        assert acl.PASSWORD not in log.read_text()
        assert PASSWORD not in log.read_text()


def until_available(call: Callable[[], T]) -> T:
    """Return the result of a call, which fails as long as no primary is there."""
    found: list[T] = []

    def succeeds() -> bool:
        try:
            found.append(call())
        except RedisUnavailable:
            return False
        return True

    wait_until(succeeds, "the primary is back", WITHIN_S)
    return found[0]


def check_all(service: Service, name: str) -> None:
    """Score a job of each kind of client, and read how Flower shows one."""
    with RerankClient(service.producer) as client:
        blocking = until_available(
            lambda: client.rerank(QUERY, DOCUMENTS, timeout=WITHIN_S, job_id=f"{name}-blocking")
        )

    async def scenario() -> list[str]:
        async with AsyncRerankClient(service.producer) as client:
            result = await client.rerank(QUERY, DOCUMENTS, timeout=WITHIN_S, job_id=f"{name}-async")
            return [document.id for document in result.documents]

    assert asyncio.run(scenario()) == [document.id for document in blocking.documents]

    def shown() -> bool:
        # It may miss jobs until it has connected again. One request in half a second is enough.
        with RerankClient(service.producer) as client:
            job_id = client.rerank(QUERY, DOCUMENTS, timeout=WITHIN_S).job_id
            client.workers(0.5)
        return bool(service.flower.tasks().get(job_id, {}).get("state") == "SUCCESS")

    wait_until(shown, "Flower shows a job", WITHIN_S)
    (queue,) = service.flower.json("/api/queues/length")["active_queues"]
    assert queue == {"name": service.producer.namespace, "messages": 0}


def test_everything_finds_the_primary(service: Service) -> None:
    check_all(service, "at-first")


def test_everything_goes_on_after_the_primary_was_killed(service: Service) -> None:
    killed = service.servers.kill_primary()

    check_all(service, "after-a-kill")
    environment = environment_of(service.producer)
    status = rerankq("status", "--json", environment=environment)
    assert len(json.loads(status.stdout)["workers"]) == 1, status.stderr
    assert "rerankq_redis_up 1.0" in rerankq("metrics", environment=environment).stdout

    service.servers.start(killed)


def test_a_wrong_password_of_the_sentinels_is_named(service: Service) -> None:
    url = service.producer.redis_url.get_secret_value().replace(PASSWORD, "another-word")
    with RerankClient(redis_url=url) as client, pytest.raises(RedisUnavailable) as caught:
        client.status("j")
    assert "invalid username-password pair" in str(caught.value)
    assert "check master_name, sentinel_password" in str(caught.value)
    assert "another-word" not in str(caught.value)


def test_redis_cluster_is_refused_in_a_sentence(tmp_path: Path) -> None:
    bus = str(free_port())  # by default the port plus 10,000, which may be above 65,535
    with embedded_redis(**{"cluster-enabled": "yes", "cluster-port": bus}) as server:
        settings = Settings.load(redis_url=f"redis://127.0.0.1:{server.port}/0")
        log = tmp_path / "worker.log"
        worker = ("worker", "--concurrency", "1")
        with celery(*worker, log=log, environment=environment_of(settings)) as process:
            assert process.wait(WITHIN_S) == EXIT_CONFIG
        assert log.read_text().splitlines()[-1] == f"Error: {NO_CLUSTER}"

        with RerankClient(settings) as client:
            for call in (
                lambda: client.submit(QUERY, DOCUMENTS),
                lambda: client.status("j"),
            ):
                with pytest.raises(RedisUnavailable, match=NO_CLUSTER):
                    call()
