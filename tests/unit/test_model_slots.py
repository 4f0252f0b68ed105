"""Threads use a bounded number of models: those used least recently make room for others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from contract.errors import ModelUnavailable
from tests.processes import wait_until
from worker.engine.protocol import do_nothing
from worker.runtime.model_slots import ModelSlots


class Places:
    """Two places in addition to a permanent model, and what is loaded into them."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        self.dropped: list[tuple[str, str]] = []
        self.slots = ModelSlots(2, ("permanent",), self._drop, self.loaded.__contains__)

    def use(self, *models: str) -> None:
        for model in models:
            with self.slots.using(model, do_nothing):
                self.loaded.add(model)

    def _drop(self, model: str, successor: str) -> None:
        self.loaded.remove(model)
        self.dropped.append((model, successor))


def test_the_model_used_least_recently_makes_room() -> None:
    places = Places()
    places.use("a", "b", "permanent", "a", "c", "permanent", "d")
    assert places.dropped == [("b", "c"), ("a", "d")]
    assert places.loaded == {"c", "d", "permanent"}


def test_a_model_that_cannot_be_loaded_takes_no_place() -> None:
    places = Places()
    places.use("a", "b")
    for _ in range(2):
        with pytest.raises(ModelUnavailable), places.slots.using("absent", do_nothing):
            raise ModelUnavailable
    places.use("a", "b", "c")
    assert places.dropped == [("a", "absent"), ("a", "c")]


def test_a_job_waits_while_all_models_are_in_use_and_drops_none_of_them() -> None:
    places, end = Places(), threading.Event()

    def hold(model: str) -> None:
        with places.slots.using(model, do_nothing):
            places.loaded.add(model)
            end.wait(60)

    with ThreadPoolExecutor(3) as threads:
        for model in ("a", "b"):
            threads.submit(hold, model)
        wait_until(lambda: places.loaded == {"a", "b"}, "both are in use")
        waiting = threads.submit(places.use, "c")
        # Meanwhile, models that have a place are used as before
        places.use("a", "permanent", "b")
        assert not waiting.done()
        assert places.dropped == []
        end.set()
        waiting.result(60)
    assert [successor for _, successor in places.dropped] == ["c"]


def test_a_waiting_job_can_be_given_up() -> None:
    places, end = Places(), threading.Event()

    def give_up() -> None:
        raise InterruptedError

    def hold(model: str) -> None:
        with places.slots.using(model, do_nothing):
            places.loaded.add(model)
            end.wait(60)

    with ThreadPoolExecutor(2) as threads:
        for model in ("a", "b"):
            threads.submit(hold, model)
        wait_until(lambda: places.loaded == {"a", "b"}, "both are in use")
        with pytest.raises(InterruptedError), places.slots.using("c", give_up):
            pytest.fail("there is no place")
        end.set()
    places.use("c")
    assert [successor for _, successor in places.dropped] == ["c"]


def test_two_hundred_threads_never_have_more_models_than_places() -> None:
    places, most = Places(), 0
    lock = threading.Lock()

    def use(number: int) -> None:
        nonlocal most
        model = f"m{number % 7}"
        with places.slots.using(model, do_nothing), lock:
            places.loaded.add(model)
            most = max(most, len(places.loaded))

    with ThreadPoolExecutor(200) as threads:
        list(threads.map(use, range(2_000)))
    assert most == 2
