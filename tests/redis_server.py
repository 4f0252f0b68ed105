"""Debian's redis-server as a process, for TLS, which the embedded server does not have."""

from __future__ import annotations

import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from contract.settings import Settings
from producer.cli.loopback import free_port
from tests.processes import end, program, wait_until


@contextmanager
def redis_server(port: int, folder: Path, configuration: Mapping[str, str]) -> Iterator[None]:
    """Run a server on loopback that listens on `port` when the block begins.

    Without redis-server the test is skipped, but never in CI.
    """
    server = program("redis-server")
    lines = {"bind": "127.0.0.1", "dir": str(folder), "save": '""'} | dict(configuration)
    # A file, because every user who lists processes sees their arguments.
    (folder / "redis.conf").write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([server, str(folder / "redis.conf")], stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or _listens(port), "redis-server listens")
            assert process.poll() is None, (folder / "redis.log").read_text()
            yield
        finally:
            end(process)


@dataclass(frozen=True)
class TlsServer:
    """A server that speaks only TLS, whose certificate is for `localhost`."""

    port: int
    #: The certificates of its authority, and of another one.
    authority: Path
    stranger: Path
    #: A certificate for clients, and its key.
    certificate: Path
    key: Path
    #: With a colon before it and an at sign after it, as in a URL; or empty.
    login: str

    def settings(self, host: str = "localhost", **query: object) -> Settings:
        """Return the URL of a client that connects with these options."""
        options = "&".join(f"{name}={value}" for name, value in query.items())
        url = f"rediss://{self.login}{host}:{self.port}/0?{options}"
        return Settings.load(redis_url=url, namespace=f"test-{uuid.uuid4().hex[:8]}")


@contextmanager
def tls_server(folder: Path, *, ask_clients: str = "no", password: str = "") -> Iterator[TlsServer]:
    """Run such a server with its own authority."""
    authority, stranger = trustme.CA(), trustme.CA()
    mine, clients = authority.issue_cert("localhost"), authority.issue_cert("a-client")
    made = TlsServer(
        *(free_port(), folder / "ca.pem", folder / "stranger.pem"),
        *(folder / "client.pem", folder / "client.key"),
        f":{password}@" if password else "",
    )
    authority.cert_pem.write_to_path(str(made.authority))
    stranger.cert_pem.write_to_path(str(made.stranger))
    clients.cert_chain_pems[0].write_to_path(str(made.certificate))
    clients.private_key_pem.write_to_path(str(made.key))
    mine.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    mine.private_key_pem.write_to_path(str(folder / "server.key"))
    configuration = {
        "port": "0",
        "tls-port": str(made.port),
        "tls-cert-file": str(folder / "server.pem"),
        "tls-key-file": str(folder / "server.key"),
        "tls-ca-cert-file": str(made.authority),
        "tls-auth-clients": ask_clients,
    }
    if password:
        configuration["requirepass"] = password
    with redis_server(made.port, folder, configuration):
        yield made


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
