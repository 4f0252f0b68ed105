"""A real worker lets the bulk jobs of several clients take turns."""

from __future__ import annotations

import redis

from contract import names
from contract.settings import Settings
from producer.client.blocking import RerankClient
from tests.processes import wait_until
from tests.stub_models import SLOW


def test_a_few_jobs_do_not_wait_for_the_many_that_another_client_submitted_before(
    stub_service: Settings, redis_url: str
) -> None:
    requests = [{"query": f"q{number}", "candidates": ["a mail client"]} for number in range(60)]
    with RerankClient(stub_service) as first, RerankClient(stub_service) as second:
        many = first.submit_many(requests, pairs_per_job=1, model=SLOW)
        few = second.submit_many(requests[:5], pairs_per_job=1, model=SLOW)
        for job_id in (*few, *many):
            first.result(job_id)
        ended = {each: first.status(each).ended_at or 0.0 for each in (*many, *few)}

    begun, last = (choose(ended[each] for each in few) for choose in (min, max))
    # The two processes start every other job for the second client.
    assert sum(begun < ended[job_id] < last for job_id in many) <= 8
    # In the order of their submission, at most one of the others would end after them.
    assert sum(ended[job_id] > last for job_id in many) >= 3
    # And no message is left.
    keys = names.Keys(stub_service.namespace)
    with redis.Redis.from_url(redis_url) as server:
        lists = *keys.queue_lists, keys.unacked
        wait_until(lambda: not server.exists(*lists), "all messages are acknowledged")
