"""A worker's results for Celery survive a Redis that refuses writes for a while."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.embedded_redis import FaultyRedis
from tests.processes import wait_until
from worker.runtime.app import create_app
from worker.runtime.settings import WorkerSettings


def test_a_result_is_stored_once_a_full_redis_has_memory_again() -> None:
    with FaultyRedis() as server, ThreadPoolExecutor(1) as pool:
        app = create_app(WorkerSettings.load(**server.settings().model_dump()))
        # Given a worker that stores a result while Redis is full
        with server.full():
            storing = pool.submit(app.backend.store_result, "j", {"pairs": 2}, "SUCCESS")
            wait_until(
                lambda: storing.done() or "errorstat_OOM" in server.admin.info("errorstats"),
                "the result is refused",
            )
        # When there is memory again, then the result is stored
        storing.result(30)
        assert app.backend.get_result("j") == {"pairs": 2}
        app.close()
