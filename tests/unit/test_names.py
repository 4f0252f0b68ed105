"""Both sides of the wire use the same names, in one namespace, and only JSON."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from kombu.transport.redis import Channel

from contract import jobs, names
from contract.settings import Settings

KEYS = names.Keys("ns")


def options(**overrides: Any) -> dict[str, Any]:
    settings: Settings = Settings.load(**overrides)
    return names.celery_options(settings)


def channel() -> Any:
    """Kombu's channel with our steps, without the connection that its constructor opens."""
    made = Channel.__new__(Channel)
    made.priority_steps = options()["broker_transport_options"]["priority_steps"]
    return made


def test_every_key_carries_the_namespace() -> None:
    whole = [KEYS.queued, KEYS.running, KEYS.dead, KEYS.totals, KEYS.sweeper, KEYS.done]
    of_a_job = [make("j") for make in (KEYS.job, KEYS.payload, KEYS.lease, KEYS.outcome)]
    ours = [*whole, KEYS.unacked, *of_a_job]
    assert all(key.startswith("ns:") for key in ours)
    assert len(set(ours)) == len(ours)
    assert all(name == "ns" or name.startswith("ns\x06") for name in KEYS.queue_lists)


def test_two_jobs_never_share_a_key() -> None:
    ids = ["a", "a:payload", "a:outcome", "a:lease", "a:b", "a.payload", "a-payload", "A"]
    allowed = [each for each in ids if jobs.JOB_ID.fullmatch(each)]
    makers = (KEYS.job, KEYS.payload, KEYS.lease, KEYS.outcome)
    keys = [make(each) for each in allowed for make in makers]
    assert len(set(keys)) == len(keys) >= 3


@pytest.mark.parametrize("priority", range(10))
def test_a_message_of_any_priority_lands_in_one_of_the_lists_that_are_counted(
    priority: int,
) -> None:
    assert channel()._q_for_pri(KEYS.queue, priority) in KEYS.queue_lists


def test_the_lists_are_kombus_in_the_order_in_which_it_serves_them() -> None:
    kombus = [channel()._q_for_pri(KEYS.queue, step) for step in names.PRIORITY_STEPS]
    assert list(KEYS.queue_lists) == kombus
    assert sorted(names.PRIORITY_STEPS) == list(names.PRIORITY_STEPS)


@pytest.mark.parametrize("priority", range(10))
def test_the_step_of_a_priority_is_that_of_the_list_it_lands_in(priority: int) -> None:
    step = names.priority_step(priority)
    assert KEYS.queue_list(step) == channel()._q_for_pri(KEYS.queue, priority)


def test_a_single_job_is_served_before_bulk_work() -> None:
    single, bulk = (
        KEYS.queue_lists.index(channel()._q_for_pri(KEYS.queue, priority))
        for priority in (names.PRIORITY_SINGLE, names.PRIORITY_BULK)
    )
    assert single < bulk


def test_celery_reads_and_writes_json_only() -> None:
    made = options()
    assert {made[f"{what}_serializer"] for what in ("task", "result", "event")} == {"json"}
    assert made["accept_content"] == made["result_accept_content"] == ["json"]


def test_the_options_are_plain_data_and_agree_with_the_settings() -> None:
    made = options(redis_url="redis://h:1/2", namespace="other", visibility_timeout_s=77)
    assert json.loads(json.dumps(made)) == made
    assert made["broker_url"] == "redis://h:1/2"
    assert made["task_default_queue"] == names.Keys("other").queue
    assert made["broker_transport_options"]["visibility_timeout"] == 77


def test_celery_is_told_of_tls_beside_the_url_and_checks_unless_told_otherwise() -> None:
    checked = options(redis_url="rediss://name:word@h:1/2")
    unchecked = options(redis_url="rediss://name:word@h:1/2?ssl_cert_reqs=none")
    assert checked["broker_url"] == unchecked["broker_url"] == "rediss://name:word@h:1/2"
    for place in ("broker_use_ssl", "redis_backend_use_ssl"):
        assert checked[place] == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        assert unchecked[place]["ssl_cert_reqs"] == "none"
        assert options(redis_url="redis://h:1/2")[place] is None


def test_two_namespaces_share_no_name() -> None:
    def strings(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(itertools.chain.from_iterable(map(strings, value.values())))
        return {value} if isinstance(value, str) else set()

    one, two = (strings(options(namespace=name, redis_url="redis://h")) for name in ("one", "two"))
    assert one & two == {"json", "redis://h"}
    assert {each.replace("one", "two") for each in one} == two
