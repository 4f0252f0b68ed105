"""A worker that takes the message on the queue, restores those of dead workers, and dies.

It is a program because its clock is moved: see `tests.soak.clocks`.
"""

from __future__ import annotations

import os

from worker.celery import app
from worker.runtime.transport import Message


def main() -> None:
    channel = app.connection_for_read().default_channel
    channel.task_queue = app.conf.task_default_queue
    message = Message(channel._get(channel.task_queue), channel=channel)
    channel.qos.append(message, message.delivery_tag)
    channel.qos.restore_visible()
    os._exit(0)  # an orderly end would return the message


if __name__ == "__main__":
    main()
