"""A worker with a wrong clock does not restore a message that another one holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from contract import names
from contract.settings import Settings
from tests.processes import environment
from tests.soak import clocks


@pytest.mark.parametrize("ahead_s", [7_200, 0, -7_200])
def test_a_message_that_was_just_taken_stays_with_its_worker(
    settings: Settings, client: redis.Redis, tmp_path: Path, ahead_s: int
) -> None:
    library = clocks.built(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler (cc) to move a clock with")
    clock = clocks.Clock(library, tmp_path / "clock")
    clock.put(ahead_s)
    keys = names.Keys(settings.namespace)
    client.lpush(keys.queue, json.dumps(MESSAGE))

    subprocess.run(
        [sys.executable, "-m", "tests.integration.take_and_restore"],
        cwd=Path(__file__).parents[2],
        env=environment(
            RERANKQ_REDIS_URL=settings.redis_url.get_secret_value(),
            RERANKQ_NAMESPACE=settings.namespace,
            **clock.environment,
        ),
        check=True,
    )

    assert client.llen(keys.queue) == 0
    ((_, taken_at),) = held(client, keys)
    seconds: Any = client.time()
    assert abs(seconds[0] - taken_at) < 60


def held(client: redis.Redis, keys: names.Keys) -> list[tuple[bytes, float]]:
    found: Any = client.zrange(keys.unacked_index, 0, -1, withscores=True)
    return list(found)


MESSAGE = {
    "body": "W1siaiJdLCB7fSwge31d",  # [["j"], {}, {}]
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"id": "j", "task": names.SCORE_TASK, "lang": "py"},
    "properties": {
        "delivery_tag": "tag",
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "q"},
    },
}
