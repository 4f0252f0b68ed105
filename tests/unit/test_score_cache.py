"""A file of scores finds exactly what was added to it, and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from contract.errors import CacheNotWritable, CacheUnusable, InvalidInput
from contract.records import Provenance
from contract.scoring import ScoringIdentity
from producer.files.file_systems import network_file_system
from producer.score_cache.cache import DAY_S, CachedScore, ScoreCache
from producer.score_cache.keys import KEY_BYTES, pair_keys
from producer.score_cache.maintenance import Maintenance
from producer.score_cache.read_ahead import MOST_BYTES, read_ahead

IDENTITY = ScoringIdentity(
    model="bundled",
    revision="sha256:0123456789abcdef",
    version=1,
    backend="rerankq",
    device="cpu",
    dtype="float32",
    max_length=512,
)
TEXTS = [f"document {number}" for number in range(20)]
KEYS = pair_keys("a query", TEXTS)


def scored(keys: list[bytes], seed: int = 0) -> list[tuple[bytes, float, int]]:
    chance = random.Random(seed)
    return [(key, chance.uniform(-12, 12), chance.randrange(2)) for key in keys]


def add_queries(cache: ScoreCache, number: int) -> None:
    for place in range(number):
        cache.add(IDENTITY, scored(pair_keys(f"query {place}", TEXTS)))


def as_found(rows: list[tuple[bytes, float, int]]) -> dict[bytes, CachedScore]:
    return {key: (score, cut) for key, score, cut in rows}


def in_processes(*calls: Callable[[], object]) -> list[int | None]:
    """Make each call in its own fork of this process; return the exit codes."""
    context = multiprocessing.get_context("fork")
    forks = [context.Process(target=call) for call in calls]
    for each in forks:
        each.start()
    for each in forks:
        each.join(60)
    return [each.exitcode for each in forks]


PASSAGES = IDENTITY.model_copy(update={"passages": "128/64/max"})
#: The passage of each document.
PLACES = [(key, (place, 10 * place, 10 * place + 9, 20, 0)) for place, key in enumerate(KEYS)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "scores.db"


@pytest.fixture
def cache(file: Path) -> Iterator[ScoreCache]:
    with ScoreCache(str(file)) as opened:
        yield opened


def test_scores_are_found_in_every_bit_by_this_and_by_other_processes(
    cache: ScoreCache, file: Path
) -> None:
    rows = scored(KEYS)
    assert cache.is_empty
    cache.add(IDENTITY, rows[:15])
    assert cache.find(IDENTITY, KEYS) == as_found(rows[:15])
    with ScoreCache(str(file)) as other:
        assert other.find(IDENTITY, KEYS) == as_found(rows[:15])
        assert other.identity(IDENTITY.digest) == IDENTITY
        assert not other.is_empty


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "another"},
        {"revision": "sha256:0123456789abcdee"},
        {"version": 2},
        {"backend": "sentence-transformers"},
        {"device": "cuda"},
        {"dtype": "float16"},
        {"max_length": 256},
        {"prompt": "find code"},
        {"passages": "256/128/max"},
    ],
)
def test_scores_of_another_model_or_with_other_settings_are_not_found(
    cache: ScoreCache, changed: dict[str, Any]
) -> None:
    cache.add(IDENTITY, scored(KEYS))
    other = IDENTITY.model_copy(update=changed)
    assert cache.find(other, KEYS) == {}
    assert cache.identity(other.digest) is None


def test_a_key_depends_on_both_texts_and_on_their_boundary() -> None:
    pairs = [("a", "b c"), ("a b", "c"), ("a", "b  c"), ("A", "b c"), ("", "a b c"), ("a b c", "")]
    keys = [pair_keys(query, [text])[0] for query, text in pairs]
    assert len(set(keys)) == len(pairs)
    assert {len(key) for key in keys} == {KEY_BYTES}


def test_the_scores_of_a_stub_have_an_identity_and_those_of_unknown_files_have_none() -> None:
    source = Provenance(
        model_requested="m",
        model="stub:scale=2",
        attempts=1,
        backend="stub",
        device="cuda:1",
        dtype="float32",
        max_length=512,
        pairs=1,
        unique_pairs=1,
        tokens=1,
        truncated=0,
        seconds=1.0,
    )
    found = ScoringIdentity.of(source, 1)
    assert found is not None
    assert (found.model, found.device) == ("stub:scale=2", "cuda")
    assert ScoringIdentity.of(source, None) is None
    assert ScoringIdentity.of(source.model_copy(update={"model": "hub/name"}), 1) is None


def test_one_query_with_very_many_documents_is_searched_for_few(cache: ScoreCache) -> None:
    keys = pair_keys("a query", [f"document {number}" for number in range(3_000)])
    rows = scored(keys)
    cache.add(IDENTITY, rows)
    assert cache.find(IDENTITY, keys[1_000:1_003]) == as_found(rows[1_000:1_003])
    assert cache.find(IDENTITY, keys) == as_found(rows)


def test_a_score_of_zero_is_not_kept_because_sqlite_has_no_negative_zero(cache: ScoreCache) -> None:
    cache.add(IDENTITY, [(KEYS[0], -0.0, 0), (KEYS[1], 2.0, 0)])
    assert cache.find(IDENTITY, KEYS) == {KEYS[1]: (2.0, 0)}


def test_the_passages_that_scores_are_from_are_kept_with_them(
    cache: ScoreCache, file: Path
) -> None:
    rows = scored(KEYS)
    cache.add(IDENTITY, rows)
    with closing(sqlite3.connect(file)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema")}
    # A file without passages is as it was in earlier versions
    assert "passages" not in tables
    assert cache.find_passages(PASSAGES, KEYS) == {}
    assert cache.find(PASSAGES, KEYS) == {}

    cache.add(PASSAGES, rows, PLACES)
    assert cache.find_passages(PASSAGES, KEYS) == dict(PLACES)
    assert cache.find(PASSAGES, KEYS) == as_found(rows)
    assert cache.identity(IDENTITY.digest) == IDENTITY
    assert cache.identity(IDENTITY.digest, "128/64/max") == PASSAGES
    assert cache.identity(IDENTITY.digest, "128/64/first") is None
    # An earlier version still uses the file for scores without passages
    with closing(sqlite3.connect(file)) as database, database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        database.execute("REPLACE INTO scores VALUES (1, ?, 1.5, 0, 20000)", (KEYS[0],))
    assert cache.find(IDENTITY, KEYS)[KEYS[0]] == (1.5, 0)


def test_two_processes_that_create_and_fill_a_file_at_once_lose_nothing(file: Path) -> None:
    def fill(name: str) -> Callable[[], None]:
        def call() -> None:
            with ScoreCache(str(file)) as opened:
                for number in range(30):
                    opened.add(IDENTITY, scored(pair_keys(f"{name} {number}", TEXTS)))

        return call

    assert in_processes(*map(fill, "ab")) == [0, 0]
    with ScoreCache(str(file)) as opened:
        for name in "ab":
            for number in range(30):
                keys = pair_keys(f"{name} {number}", TEXTS)
                assert opened.find(IDENTITY, keys) == as_found(scored(keys))


def test_a_process_that_is_killed_loses_at_most_what_it_was_adding(file: Path) -> None:
    ready, done = multiprocessing.Pipe(duplex=False)

    def fill() -> None:
        with ScoreCache(str(file)) as opened:
            for number in range(1_000_000):
                opened.add(IDENTITY, scored(pair_keys(f"query {number}", TEXTS)))
                done.send(number)

    process = multiprocessing.get_context("fork").Process(target=fill)
    process.start()
    confirmed = -1
    while confirmed < 50:
        confirmed = ready.recv()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while ready.poll():
        confirmed = ready.recv()
    with ScoreCache(str(file)) as opened:
        for number in range(confirmed + 1):
            keys = pair_keys(f"query {number}", TEXTS)
            assert opened.find(IDENTITY, keys) == as_found(scored(keys))


def test_a_full_disk_is_reported_with_the_file_which_can_still_be_read(file: Path) -> None:
    rows = scored(KEYS)

    def fill() -> None:
        with ScoreCache(str(file)) as opened:
            opened.add(IDENTITY, rows)
            # A limit of this process, which SQLite reports like a disk without space.
            resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, resource.RLIM_INFINITY))
            with pytest.raises(CacheNotWritable, match=f"^{file}: this cache cannot be written"):
                add_queries(opened, 1_000)
            assert opened.find(IDENTITY, KEYS) == as_found(rows)

    assert in_processes(fill) == [0]


def test_a_file_without_permission_to_write_is_read_and_not_changed(file: Path) -> None:
    rows = scored(KEYS)
    with ScoreCache(str(file)) as opened:
        opened.add(IDENTITY, rows[:5])
    file.chmod(stat.S_IRUSR)
    before = file.read_bytes()
    with ScoreCache(str(file), clock=lambda: 1e11) as opened:
        assert not opened.writable
        opened.add(IDENTITY, rows)
        assert opened.find(IDENTITY, KEYS) == as_found(rows[:5])
        opened.note_use()
    with Maintenance(file, today=1) as maintenance, pytest.raises(InvalidInput, match="read-only"):
        maintenance.prune(1, None)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"no database\n" * 1_000, b"SQLite format 3\0" + b"\1" * 9_000]
)
def test_a_file_of_another_kind_is_refused_and_left_alone(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=f"^{file}: this is not a file of cached scores, or"):
        ScoreCache(str(file))
    assert file.read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE theirs (a)")
    with pytest.raises(InvalidInput, match=f"^{file}: this is a SQLite file, but not one of cache"):
        ScoreCache(str(file))
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]


def test_a_file_of_a_newer_version_is_refused(file: Path) -> None:
    ScoreCache(str(file)).close()
    with closing(sqlite3.connect(file)) as newer:
        newer.execute("PRAGMA user_version = 2")
    with pytest.raises(InvalidInput, match="version 2 of the cache, but this version of rerankq"):
        ScoreCache(str(file))


def test_a_file_that_another_user_keeps_private_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScoreCache(str(file)).close()
    file.chmod(0)
    file.parent.chmod(0o755)
    monkeypatch.chdir(file.parent)

    def open_as_another_user() -> None:
        if os.geteuid() == 0:  # the superuser may read each file
            os.setuid(65_534)
        with pytest.raises(InvalidInput, match=f"^{file.name}: Permission denied; make the file"):
            ScoreCache(file.name)

    assert in_processes(open_as_another_user) == [0]


def test_a_file_that_is_damaged_later_is_reported_by_name(file: Path) -> None:
    with ScoreCache(str(file)) as opened:
        add_queries(opened, 200)
    content = bytearray(file.read_bytes())
    content[8_192:] = os.urandom(len(content) - 8_192)
    file.write_bytes(content)
    keys = [pair_keys(f"query {number}", TEXTS) for number in range(200)]
    with ScoreCache(str(file)) as opened, pytest.raises(CacheUnusable, match=f"^{file}: .*delete"):
        [opened.find(IDENTITY, each) for each in keys]


@pytest.mark.parametrize(
    ("name", "said"), [("-", "regular file"), (".", "not a regular file"), ("no/x", "does not exi")]
)
def test_a_name_that_can_be_no_cache_is_refused(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=said):
        ScoreCache(name)


def test_a_network_file_system_is_recognized_by_the_innermost_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /home rw shared:1 - nfs4 server:/home rw\n"
        "31 30 8:2 / /home/my\\040disk rw - xfs /dev/sdb1 rw\n"
        "32 22 0:41 / /mnt rw - fuse.sshfs host: rw\n"
    )
    found = [
        network_file_system(Path(each), mounts)
        for each in ("/tmp/a", "/home/a/b", "/home/my disk/b", "/mnt/c", "/homes/a")  # noqa: S108
    ]
    assert found == [None, "nfs4", None, "fuse.sshfs", None]
    assert network_file_system(Path("/a"), tmp_path / "missing") is None


class TestPruning:
    def test_scores_that_were_not_used_for_so_many_days_go(self, file: Path) -> None:
        old, new = scored(KEYS[:10]), scored(KEYS[10:])
        day = 0
        with ScoreCache(str(file), clock=lambda: (day + 0.5) * DAY_S) as cache:
            cache.add(IDENTITY, old)
            day = 10
            cache.add(IDENTITY, new)
            # One of the old ones is used again
            assert cache.find(IDENTITY, KEYS[:1]) == as_found(old[:1])
            cache.note_use()
        for today, days, left in ((30, 30, 20), (31, 30, 11), (39, 30, 11), (41, 30, 0)):
            with Maintenance(file, today) as maintenance:
                pruned = maintenance.prune(days, None)
                assert pruned.pairs_left == left
                assert len(maintenance.stats().identities) == bool(left)

    def test_passages_go_with_their_scores(self, file: Path) -> None:
        day = 0
        with ScoreCache(str(file), clock=lambda: day * DAY_S) as cache:
            cache.add(PASSAGES, scored(KEYS[:10]), PLACES[:10])
            day = 10
            cache.add(PASSAGES, scored(KEYS[10:]), PLACES[10:])
            with Maintenance(file, 20) as maintenance:
                maintenance.prune(15, None)
            assert cache.find_passages(PASSAGES, KEYS) == dict(PLACES[10:])
            with Maintenance(file, 20) as maintenance:
                maintenance.prune(None, 1)
            assert cache.find_passages(PASSAGES, KEYS) == {}

    def test_a_clock_that_was_set_back_makes_no_score_older(self, file: Path) -> None:
        day = 100
        with ScoreCache(str(file), clock=lambda: day * DAY_S) as cache:
            cache.add(IDENTITY, scored(KEYS))
            day = 50
            cache.find(IDENTITY, KEYS)
            cache.note_use()
        with Maintenance(file, today=110) as maintenance:
            assert maintenance.stats().identities[0].last_used == 100

    def test_uses_in_the_future_count_as_today(self, file: Path) -> None:
        with ScoreCache(str(file), clock=lambda: 900 * DAY_S) as cache:
            cache.add(IDENTITY, scored(KEYS))
        with Maintenance(file, today=100) as maintenance:
            pruned = maintenance.prune(30, None)
            assert (pruned.from_future, pruned.pairs_left) == (len(KEYS), len(KEYS))
        with Maintenance(file, today=131) as maintenance:
            assert maintenance.prune(30, None).pairs_left == 0

    def test_the_least_recently_used_go_until_the_file_is_small_enough(self, file: Path) -> None:
        day = 0
        other = IDENTITY.model_copy(update={"max_length": 99})
        with ScoreCache(str(file), clock=lambda: day * DAY_S) as cache:
            for day, identity in ((1, IDENTITY), (2, other), (3, IDENTITY)):
                for number in range(300):
                    keys = pair_keys(f"query {day} {number}", TEXTS)
                    cache.add(identity, scored(keys))
        with Maintenance(file, today=3) as maintenance:
            assert maintenance.stats().pairs == 3 * 300 * len(TEXTS)
            size = maintenance.stats().bytes
            # When a file of less than half the size is asked for
            pruned = maintenance.prune(None, size * 2 // 5)
            stats = maintenance.stats()
            assert pruned.bytes_before >= size >= size * 2 // 5 >= pruned.bytes_after
            # Then hardly more goes than must, the first day all, and nothing of the last
            assert pruned.bytes_after > size / 4
            assert {each.identity: each.last_used for each in stats.identities} == {
                IDENTITY: 3,
                other: 2,
            }
            assert next(e for e in stats.identities if e.last_used == 3).pairs == 300 * len(TEXTS)
            assert stats.pairs == pruned.pairs_left
            # And a file that is small enough is left alone
            assert maintenance.prune(None, size).pairs == 0

    def test_a_file_in_use_loses_scores_and_is_read_and_filled_on(
        self, cache: ScoreCache, file: Path
    ) -> None:
        rows = scored(KEYS)
        cache.add(IDENTITY, rows)
        with Maintenance(file, cache.today + 100) as maintenance:
            assert maintenance.prune(30, None).pairs == len(KEYS)
        assert cache.find(IDENTITY, KEYS) == {}
        other = IDENTITY.model_copy(update={"revision": "another"})
        with ScoreCache(str(file)) as second:
            second.add(other, scored(KEYS, seed=1))
        cache.add(IDENTITY, rows)
        assert cache.find(IDENTITY, KEYS) == as_found(rows)
        assert cache.find(other, KEYS) == as_found(scored(KEYS, seed=1))

    def test_a_file_that_is_not_there_is_not_created(self, file: Path) -> None:
        with pytest.raises(InvalidInput, match=f"^{file}: there is no such file"):
            Maintenance(file, today=1)
        assert not file.exists()


def test_a_file_is_read_ahead_if_that_is_faster_than_its_look_ups(file: Path) -> None:
    advised: list[tuple[int, int]] = []

    def advise(_: int, offset: int, length: int, _advice: int) -> None:
        advised.append((offset, offset + length))

    file.write_bytes(b"x" * 500_000)
    read_ahead(file, 4, advise)
    assert advised == []
    read_ahead(file, 5, advise)
    # Then all parts are read, in their order
    assert advised[0][0] == 0
    assert advised[-1][1] >= 500_000
    assert all(end == begin for (_, end), (begin, _) in pairwise(advised))

    file.unlink()
    with file.open("wb") as large:
        large.truncate(2 * MOST_BYTES)
    advised.clear()
    read_ahead(file, 10**9, advise)
    assert advised == []


def test_a_cache_is_read_ahead_where_the_system_can(file: Path, cache: ScoreCache) -> None:
    add_queries(cache, 3)
    cache.close()
    with ScoreCache(str(file), queries=1_000) as read:
        assert len(read.find(IDENTITY, pair_keys("query 1", TEXTS))) == len(TEXTS)
    read_ahead(file, 1_000, advise=None)
