"""Read the URL of a Redis whose primary is found by Sentinel.

Two forms mean the same. The first has one list of sentinels, the second is Celery's:

    sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT,HOST:PORT/DATABASE?master_name=NAME
    sentinel://:PASSWORD@HOST:PORT/0;sentinel://HOST:PORT;sentinel://HOST:PORT?master_name=NAME

User and password are those of Redis. The options of the query are in `OPTIONS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from contract import redis_tls

SCHEMES = ("sentinel", "redis+sentinel")
FORM = "sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT,HOST:PORT/DATABASE?master_name=NAME"
DEFAULT_PORT = 26379
#: How long to wait for an answer of a sentinel, before the next one is asked.
TIMEOUT_S = 1.0

#: The options in addition to those of TLS. `ssl=true` means TLS to Redis, and to the sentinels too
#: unless `sentinel_ssl=false`. A sentinel that knows fewer than `min_other_sentinels` others is not
#: trusted.
OPTIONS = (
    *("master_name", "sentinel_username", "sentinel_password"),
    *("ssl", "sentinel_ssl", "min_other_sentinels"),
)
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class SentinelUrl:
    """The sentinels, and how to log in to them and to the primary that they name."""

    sentinels: tuple[tuple[str, int], ...]
    master_name: str
    database: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    sentinel_username: str | None = field(repr=False)
    sentinel_password: str | None = field(repr=False)
    min_other_sentinels: int
    #: Keyword arguments of redis-py and Celery for TLS; None without TLS.
    tls: dict[str, Any] | None
    sentinel_tls: dict[str, Any] | None

    @property
    def location(self) -> str:
        """Return the URL for messages, without users and passwords."""
        hosts = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.sentinels)
        return f"sentinel://{hosts}/{self.database}?master_name={self.master_name}"

    @property
    def for_celery(self) -> str:
        """Return the URL for Celery, kombu and Flower; it may contain a password."""
        login = ""
        if self.username or self.password:
            login = f"{quote(self.username or '', '')}:{quote(self.password or '', '')}@"
        return ";".join(
            f"sentinel://{login}{_bracketed(host)}:{port}/{self.database}"
            for host, port in self.sentinels
        )

    @property
    def connection_options(self) -> dict[str, Any]:
        """Return keyword arguments of redis-py to connect to a sentinel.

        Without retries, because another sentinel is asked instead.
        """
        tls = {} if self.sentinel_tls is None else {"ssl": True} | self.sentinel_tls
        return {
            "username": self.sentinel_username,
            "password": self.sentinel_password,
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "retry": None,
            **tls,
        }


def matches(url: str) -> bool:
    """Return whether the URL is one of Sentinel."""
    return url.partition("://")[0] in SCHEMES


def servers(url: str) -> list[str]:
    """Return the URL of each sentinel as a `redis://` URL, with the login and the database.

    Raises `ValueError` if the parts of the URL contradict each other.
    """
    found: list[str] = []
    tails: set[tuple[str, str]] = set()
    for chunk in url.split(";"):
        scheme, _, rest = chunk.partition("://")
        if scheme not in SCHEMES:
            raise ValueError(f"must have only sentinels, separated by commas; use {FORM}")
        authority, slash, database = rest.partition("?")[0].partition("/")
        login, at, hosts = authority.rpartition("@")
        tails.update([("login", login)] if at else [], [("database", database)] if slash else [])
        found += (f"redis://{login}{at}{host}{slash}{database}" for host in hosts.split(","))
    for what in ("login", "database"):
        if len([name for name, _ in tails if name == what]) > 1:
            raise ValueError(f"has more than one {what}; all sentinels must have the same")
    return found


def check(url: str) -> None:
    """Raise `ValueError` if the options cannot be used; `redis_url` checks the rest."""
    query = _query(url)
    tls = {name: values for name, values in query.items() if name in redis_tls.OPTIONS}
    for name, values in query.items():
        if name not in (*OPTIONS, *redis_tls.OPTIONS):
            allowed = ", ".join((*OPTIONS, *redis_tls.OPTIONS))
            # The name is not shown, because it may contain a part of a password.
            raise ValueError(f"may have only the query options {allowed}")
        if len(set(values)) > 1:
            raise ValueError(f"has more than one {name}")
        if name in ("ssl", "sentinel_ssl") and values[0] not in _TRUTH:
            raise ValueError(f"{name} must be true or false")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", query.get("master_name", [""])[0]):
        raise ValueError(
            "must have the option master_name, with the name of the primary in the configuration"
            f" of the sentinels; use {FORM}"
        )
    if not re.fullmatch(r"\d{1,3}", query.get("min_other_sentinels", ["0"])[0]):
        raise ValueError("min_other_sentinels must be a whole number from 0 to 999")
    secure = query.get("ssl", [""])[0] == "true" or query.get("sentinel_ssl", [""])[0] == "true"
    redis_tls.check_options(tls, how=None if secure else "add ssl=true")


def parse(url: str) -> SentinelUrl:
    """Return the parts of a URL that was checked."""
    parts = [urlsplit(each) for each in servers(url)]
    query = {name: values[0] for name, values in _query(url).items()}
    tls = redis_tls.with_defaults({n: v for n, v in query.items() if n in redis_tls.OPTIONS})
    secure = _TRUTH[query.get("ssl", "false")]
    login = next((each for each in parts if each.netloc.count("@")), parts[0])
    database = next((each.path[1:] for each in parts if len(each.path) > 1), "0")
    return SentinelUrl(
        sentinels=tuple((each.hostname or "", each.port or DEFAULT_PORT) for each in parts),
        master_name=query["master_name"],
        database=int(database),
        username=unquote(login.username or "") or None,
        password=unquote(login.password or "") or None,
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=query.get("sentinel_password"),
        min_other_sentinels=int(query.get("min_other_sentinels", "0")),
        tls=tls if secure else None,
        sentinel_tls=tls if _TRUTH[query.get("sentinel_ssl", str(secure).lower())] else None,
    )


def _query(url: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for chunk in url.split(";"):
        # A plus sign is itself in the other parts of a URL, and passwords have no spaces.
        text = chunk.partition("?")[2].replace("+", "%2B")
        for name, values in parse_qs(text, keep_blank_values=True).items():
            found.setdefault(name, []).extend(values)
    return found


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
