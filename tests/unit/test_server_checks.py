"""A server that is unfit for jobs is reported, with the fix."""

from __future__ import annotations

import pytest

from contract.store import server_checks

UNFIT = {
    "too old": ({"redis_version": "6.0.16"}, "too old; upgrade it to 6.2"),
    "cluster": ({"redis_mode": "cluster"}, "Redis Cluster is not supported"),
    "cluster of another kind": ({"cluster_enabled": 1}, "use a single server"),
    "sentinel": ({"redis_mode": "sentinel"}, "use sentinel://HOST:PORT"),
    "replica": ({"role": "slave"}, "replica"),
}


@pytest.mark.parametrize(("info", "says"), UNFIT.values(), ids=UNFIT.keys())
def test_a_server_that_is_unfit_is_named(info: dict[str, object], says: str) -> None:
    (warning,) = server_checks.check_server(info)
    assert says in warning


@pytest.mark.parametrize(
    "info", [{}, {"redis_version": "7.2.4", "role": "master"}, {"redis_version": "unstable"}]
)
def test_a_server_that_is_fit_needs_no_warning(info: dict[str, object]) -> None:
    assert list(server_checks.check_server(info)) == []
