"""Flower as a process, and how to ask it as a browser or Prometheus does."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract.settings import Settings
from producer.cli.local_stack import free_port
from tests.processes import celery, wait_until

LOGIN = "someone:a password"

#: A value of each label, in alphabetical order of the labels.
Labels = tuple[str, ...]


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
        """What stands at a path; raises `HTTPError`."""
        return fetch(self.url + path, login)

    def refusal(self, method: str, path: str, login: str | None = LOGIN) -> int:
        """The status with which it refuses; fails if it does not."""
        return refusal(self.url + path, login, method)

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def saved(self) -> float:
        """When it has last written down what it knows: seconds since the epoch."""
        files = self._state.parent.glob(f"{self._state.name}*")
        whole = [file for file in files if ".tmp" not in file.name]
        return min((file.stat().st_mtime for file in whole), default=0.0)

    def hears(self, worker: str) -> bool:
        """Whether it has heard of a worker, and so will of its jobs."""
        online = samples(self.get("/metrics", login=None), "flower_worker_online", "worker")
        return any(name.endswith(worker) for (name,) in online)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """What its table of tasks shows, by job id."""
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


def fetch(url: str, login: str | None = None, method: str = "GET") -> str:
    """What stands at an address; raises `HTTPError`."""
    request = urllib.request.Request(url, method=method)  # noqa: S310
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        text: str = response.read().decode()
    return text


def refusal(url: str, login: str | None = None, method: str = "GET") -> int:
    """The status with which an address refuses; fails if it does not."""
    with pytest.raises(HTTPError) as refused:
        fetch(url, login, method)
    refused.value.close()
    return refused.value.code


def samples(text: str, name: str, *labels: str, **only: str) -> dict[Labels, float]:
    """The samples of a metric in Prometheus' text format, summed up by some labels.

    Those alone that have the values of `only`.
    """
    found: dict[Labels, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and only.items() <= sample.labels.items():
                key = tuple(sample.labels[label] for label in labels)
                found[key] = found.get(key, 0.0) + sample.value
    return found


def nonzero(amounts: Mapping[Labels, float]) -> dict[str, float]:
    """Of a metric with one label."""
    return {label: amount for (label,), amount in amounts.items() if amount}
