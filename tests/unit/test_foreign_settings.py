"""Settings of Celery that would override this service's are refused."""

from __future__ import annotations

import pytest

from tests.processes import run

ELSEWHERE = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("command", "variables", "options", "named"),
    [
        ("worker", {"CELERY_BROKER_URL": ELSEWHERE}, [], "CELERY_BROKER_URL"),
        ("worker", {"CELERY_RESULT_BACKEND": ELSEWHERE}, [], "CELERY_RESULT_BACKEND"),
        ("worker", {"CELERY_CONFIG_MODULE": "some.module"}, [], "CELERY_CONFIG_MODULE"),
        ("worker", {}, ["--broker", ELSEWHERE], "CELERY_BROKER_URL"),
        # Both commands run the same checks, when Celery finds the app.
        ("flower", {"CELERY_CONFIG_MODULE": "some.module"}, [], "CELERY_CONFIG_MODULE"),
        ("flower", {}, ["--broker", ELSEWHERE], "CELERY_BROKER_URL"),
    ],
)
def test_an_address_of_redis_that_only_celery_knows_ends_the_process_with_a_line(
    command: str, variables: dict[str, str], options: list[str], named: str
) -> None:
    done = run("celery", "-A", "worker", *options, command, environment=variables)

    assert (done.returncode, done.stderr.count("\n")) == (78, 1), done.stderr
    assert done.stderr.startswith(f"Error: {named} is set")
    assert "RERANKQ_REDIS_URL" in done.stderr
