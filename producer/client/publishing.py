"""Puts messages on the queue, and asks who is listening. The seam where Celery's errors end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty, LifoQueue
from typing import Any

import redis
from celery import Celery
from celery.loaders.app import AppLoader
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.pidbox import Mailbox

from contract import jobs, names
from contract.errors import RedisUnavailable
from contract.settings import Settings
from contract.store.connection import POOL_WAIT_S
from contract.store.redis_errors import closed_error, translate
from producer.client.single_flight import SingleFlight

#: Connections that publish. They are busy for a millisecond or two for each message.
MAX_CONNECTIONS = 10
#: The reply queue of a process that was killed while it asked the workers is removed after this
#: time.
REPLY_QUEUE_EXPIRES_S = 10.0


class Publisher:
    """Sends messages and asks workers, from any number of threads, and in forked processes too."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closed = False
        self._sender = _Sender(settings)

    def send(self, job: jobs.Job, priority: int) -> None:
        """Put the job's message on the queue: its id and counts, never its documents.

        `priority` is 0 (first) to 9. Raises `RedisUnavailable`; then the message may or may not
        have been sent. Raises `ClientUnusable` after `close`.
        """
        with self._translated():
            self._here().send(job, priority)

    def workers(self, timeout_s: float = 1.0, at_most: int | None = None) -> tuple[str, ...]:
        """Return the names of the workers that answer within `timeout_s`.

        Only of the first `at_most` of them, if that is given. Threads that ask the same at the
        same time share one answer. Raises `RedisUnavailable`, or `ClientUnusable` after `close`.
        """
        with self._translated():
            return self._here().workers(timeout_s, at_most)

    def close(self) -> None:
        """Close the connections; those in use are closed when their threads are done."""
        self._closed = True
        self._sender.close()

    def _here(self) -> _Sender:
        """Return the sender of this process: a fork inherits locks and sockets, but no threads."""
        if self._closed:
            raise closed_error()
        if self._sender.pid != os.getpid():
            self._sender = _Sender(self._settings)
        return self._sender

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Kombu wraps most of redis-py's errors in its own, but not all."""
        try:
            yield
        except redis.RedisError as error:
            raise translate(error, self._settings) from error
        except OperationalError as error:
            if isinstance(error.__cause__, redis.RedisError):
                raise translate(error.__cause__, self._settings) from error
            raise RedisUnavailable(
                f"Redis at {self._settings.redis_location} does not take messages ({error})"
            ) from error


class _Sender:
    """A Celery app that only sends, with its connections, in one process."""

    def __init__(self, settings: Settings) -> None:
        self.pid = os.getpid()
        self._settings = settings
        self._queue = names.Keys(settings.namespace).queue
        self._app = _app(settings)
        self._connections = _Connections(self._connect, settings)
        self._asked = SingleFlight[tuple[str, ...]](f"workers on {settings.redis_location}")

    def send(self, job: jobs.Job, priority: int) -> None:
        with self._connections.lent() as connection:
            self._app.send_task(
                names.SCORE_TASK,
                args=(job.id,),
                kwargs={"requests": len(job.requests), "pairs": job.pairs},
                task_id=job.id,
                queue=self._queue,
                priority=priority,
                connection=connection,
                # A caller that is a Celery task itself has no part in the job.
                root_id=job.id,
                add_to_parent=False,
            )

    def workers(self, timeout_s: float, at_most: int | None) -> tuple[str, ...]:
        wait_s = timeout_s + POOL_WAIT_S
        return self._asked.get((timeout_s, at_most), lambda: self._ask(timeout_s, at_most), wait_s)

    def close(self) -> None:
        self._connections.close()
        self._app.close()

    def _ask(self, timeout_s: float, at_most: int | None) -> tuple[str, ...]:
        # Without a pool, which the mailbox would take a second connection from.
        mailbox = Mailbox(
            self._settings.namespace,
            type="fanout",
            accept=["json"],
            serializer="json",
            queue_exclusive=False,
            reply_queue_expires=REPLY_QUEUE_EXPIRES_S,
        )
        with self._connect() as connection:
            replies = mailbox(connection).multi_call("ping", timeout=timeout_s, limit=at_most)
        return tuple(sorted(name for reply in replies or () for name in reply))

    def _connect(self) -> Connection:
        # By its URL: without one, CELERY_BROKER_URL of the environment would win.
        return self._app.connection_for_write(self._settings.redis_server)


class _Connections:
    """A few connections, each lent to one thread at a time.

    Not one of kombu's pools: those belong to the whole process, and the program that embeds the
    client may have set their limit for its own Celery app.
    """

    def __init__(self, connect: Any, settings: Settings) -> None:
        self._connect = connect
        self._settings = settings
        self._closed = False
        self._free: LifoQueue[Connection | None] = LifoQueue()
        for _ in range(MAX_CONNECTIONS):
            self._free.put(None)

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """A connection for the block, closed if the block raises: nobody knows its state then.

        Raises `RedisUnavailable` if none becomes free in time.
        """
        try:
            connection = self._free.get(timeout=POOL_WAIT_S)
        except Empty:
            raise RedisUnavailable(
                f"no connection for messages to Redis at {self._settings.redis_location} became"
                f" free within {POOL_WAIT_S:g} s: all {MAX_CONNECTIONS} of this client are in use"
                " by other threads"
            ) from None
        whole = False
        try:
            if self._closed:
                raise closed_error()
            if connection is None:
                connection = self._connect()
            yield connection
            whole = True
        finally:
            self._free.put(connection if whole else None)
            if connection is not None and not whole:
                connection.close()
            if self._closed:
                self._close_free()

    def close(self) -> None:
        self._closed = True
        self._close_free()

    def _close_free(self) -> None:
        taken: list[Connection | None] = []
        with suppress(Empty):
            while True:
                taken.append(self._free.get_nowait())
        for connection in taken:
            self._free.put(None)  # for a thread that waits, which finds the client closed
            if connection is not None:
                connection.close()


class _Loader(AppLoader):  # type: ignore[misc]  # Celery is untyped
    """Reads no configuration: CELERY_CONFIG_MODULE is that of the program that embeds us."""

    def read_configuration(self, *_: Any, **__: Any) -> Mapping[str, Any]:
        return {}


class _App(Celery):  # type: ignore[misc]
    """Stores no results, whatever CELERY_RESULT_BACKEND says.

    With a result backend, publishing would subscribe to each result, and block for about twenty
    seconds when Redis is away.
    """

    backend_cls = "disabled"


def _app(settings: Settings) -> Celery:
    """Return a Celery app that knows nothing of another one in this process."""
    keys = names.Keys(settings.namespace)
    app = _App(
        "rerankq.producer",
        set_as_current=False,
        loader=_Loader,
        fixups=(),  # Django's would read its settings, and put the working directory on sys.path
    )
    app.conf.update(names.celery_options(settings))
    app.conf.update(
        broker_connection_timeout=settings.redis_timeout_s,
        broker_connection_retry=False,
        # One more try, for a pooled connection that was closed meanwhile.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0},
    )
    app.conf.broker_transport_options |= {
        "socket_timeout": settings.redis_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "socket_keepalive": True,
        "client_name": "rerankq-producer",
        # What workers hold is not a producer's to give back, which kombu would do while it
        # waits for a reply.
        "unacked_key": keys.unacked_by_producers,
        "unacked_index_key": f"{keys.unacked_by_producers}:index",
        "unacked_mutex_key": f"{keys.unacked_by_producers}:mutex",
        # Kombu's own attempts to connect, before any of Celery's policies come to bear.
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
    }
    return app
