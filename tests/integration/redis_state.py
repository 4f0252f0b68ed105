"""The contents of Redis: messages on the queue, keys, payloads, subscribers."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import redis

from contract import jobs, names
from contract.settings import Settings
from contract.store import encoding
from contract.store.operation import Operation, Schema
from tests.processes import wait_until

#: Long enough for a busy machine; a passing test does not wait this long.
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Message:
    """A message on the queue, as a worker would read it."""

    #: The priority step of its list.
    step: int
    id: str
    task: str
    arguments: list[Any]
    counts: dict[str, Any]
    #: All of its readable text.
    text: str


def messages(client: redis.Redis, settings: Settings) -> list[Message]:
    """Return all messages on the queue, list by list, in the order of submission."""
    keys = names.Keys(settings.namespace)
    found = []
    for step, name in zip(names.PRIORITY_STEPS, keys.queue_lists, strict=True):
        raw: Any = client.lrange(name, 0, -1)
        found += [_message(step, each) for each in reversed(raw)]
    return found


def _message(step: int, raw: bytes) -> Message:
    envelope = json.loads(raw)
    body = base64.b64decode(envelope["body"]).decode()
    arguments, counts, _ = json.loads(body)
    headers = envelope["headers"]
    return Message(
        step=step,
        id=headers["id"],
        task=headers["task"],
        arguments=arguments,
        counts=counts,
        text=raw.decode() + body,
    )


def keys_of(client: redis.Redis, settings: Settings) -> list[str]:
    """Return all keys of the namespace: records, queue, and counts."""
    found: Any = client.scan_iter(f"*{settings.namespace}*")
    return sorted(key.decode() for key in found)


def payload(schema: Schema, job_id: str) -> Operation[jobs.Job]:
    """Load a job like a worker, without counting an attempt."""
    return Operation(
        lambda pipe: pipe.get(schema.keys.payload(job_id)),
        lambda replies: encoding.decode_job(schema.settings, job_id, replies[0]).job(),
    )


def subscribers(client: redis.Redis, settings: Settings) -> int:
    """Return the number of connections that listen for jobs to end."""
    channel = names.Keys(settings.namespace).done
    replies: Any = client.pubsub_numsub(channel)
    return int(dict(replies)[channel.encode()])


def await_subscribers(client: redis.Redis, settings: Settings, number: int) -> None:
    """Return once exactly this many listen."""
    wait_until(
        lambda: subscribers(client, settings) == number,
        f"{number} subscribers",
        PATIENCE_S,
    )
