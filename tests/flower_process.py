"""Flower as a process, and requests to it like those of a browser or Prometheus."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from contract.settings import Settings
from producer.cli.loopback import free_port
from tests.metrics_text import samples
from tests.processes import celery, wait_until
from tests.web import fetch, refusal

LOGIN = "someone:a password"


class Flower:
    """`celery -A worker flower` as a process, with a login."""

    def __init__(self, settings: Settings, folder: Path, **options: str) -> None:
        self.port = free_port()
        self.log = folder / "flower.log"
        self._state = folder / "state" / "flower"
        self.prefix = options.get("FLOWER_URL_PREFIX", "")
        self._environment = {
            "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
            "RERANKQ_NAMESPACE": settings.namespace,
            "FLOWER_PORT": str(self.port),
            "FLOWER_BASIC_AUTH": LOGIN,
            "FLOWER_DB": str(self._state),
            **options,
        }
        self._open = ExitStack()

    @property
    def url(self) -> str:
        prefix = f"/{self.prefix}" if self.prefix else ""
        return f"http://127.0.0.1:{self.port}{prefix}"

    def get(self, path: str, login: str | None = LOGIN) -> str:
        """Return the page at a path; raises `HTTPError`."""
        return fetch(self.url + path, login)

    def refusal(self, method: str, path: str, login: str | None = LOGIN) -> int:
        """Return the status of a refused request; fails if it is not refused."""
        return refusal(self.url + path, login, method)

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def saved(self) -> float:
        """Return when Flower last saved its state, in seconds since the epoch."""
        files = self._state.parent.glob(f"{self._state.name}*")
        whole = [file for file in files if ".tmp" not in file.name]
        return min((file.stat().st_mtime for file in whole), default=0.0)

    def kill_between_saves(self) -> None:
        """Kill it, but not while it replaces the two files that hold its state."""
        pid = self.process.pid
        while True:
            os.kill(pid, signal.SIGSTOP)
            os.waitid(os.P_PID, pid, os.WSTOPPED)
            if not [*self._state.parent.glob("*.tmp*")]:
                break
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.01)
        self.process.kill()

    def hears(self, worker: str) -> bool:
        """Return whether Flower receives the events of a worker."""
        online = samples(self.get("/metrics", login=None), "flower_worker_online", "worker")
        return any(name.endswith(worker) for (name,) in online)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the table of tasks by job id."""
        tasks: dict[str, dict[str, Any]] = self.json("/api/tasks?limit=1000")
        return tasks

    def __enter__(self) -> Self:
        self.process = self._open.enter_context(
            celery("flower", log=self.log, environment=self._environment)
        )
        try:
            wait_until(self._answers, "Flower answers")
        except BaseException:
            self._open.close()
            raise
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/healthcheck") == "OK"
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        self._open.close()
