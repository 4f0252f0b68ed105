"""Let the groups of bulk jobs take turns: a message from the queue starts the job whose turn it is.

The lists of the queue are first in, first out, so one group with ten thousand jobs would make all
others wait. Messages hold no documents, and a message can therefore start any job. The queue still
has one message for each job. Older workers start the job that a message names.
"""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

from redis.exceptions import ResponseError

from contract import names
from contract.store import scripts

logger = logging.getLogger(__name__)


def in_turn(client: Any, keys: names.Keys, payload: dict[str, Any]) -> dict[str, Any] | None:
    """Return the message that is delivered for `payload`; None for none.

    It is `payload` itself unless it is a new message of a bulk job and another job is next. Without
    the permission to read the groups, the queue is first in, first out.
    """
    try:
        headers, properties = payload["headers"], payload["properties"]
        job_id, step = headers["id"], names.priority_step(properties["priority"])
        # A message that was delivered before, or is a retry, is about its own job.
        again = headers.get("retries") or headers.get("redelivered")
        is_new = not again and not properties["delivery_info"].get("redelivered")
        tag = str(properties["delivery_tag"])
    except (LookupError, TypeError, ValueError, AttributeError):
        return payload  # it is rejected later
    if step < names.FIRST_SHARED_STEP or not is_new or not isinstance(job_id, str):
        return payload
    try:
        taken = client.eval(
            scripts.source("take_turn"),
            2,
            f"{keys.turns}{step}",
            keys.job(job_id),
            job_id,
            keys.job(""),
        )
    except ResponseError as error:
        logger.warning("Starting job %s before its turn: %s", job_id, error)
        return payload
    next_id, *fields = (each.decode() if isinstance(each, bytes) else str(each) for each in taken)
    if not fields:
        return payload if next_id else None
    return _message(next_id, fields, keys.queue, tag)


def _message(job_id: str, fields: list[str], queue: str, tag: str) -> dict[str, Any]:
    """Return the message of a job as its producer sent it, with the tag of another message."""
    requests, pairs, priority, trace = fields
    sizes = {"requests": int(requests), "pairs": int(pairs)}
    return {
        "body": base64.b64encode(json.dumps([[job_id], sizes, {}]).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": names.SCORE_TASK, "id": job_id, **json.loads(trace or "{}")},
        "properties": {
            "delivery_tag": tag,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": int(priority),
            "body_encoding": "base64",
        },
    }
