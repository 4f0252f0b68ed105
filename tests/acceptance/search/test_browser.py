"""A person who searches in a real browser sees both orders.

The picture is kept in the folder that `SCREENSHOTS` names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from examples.search.app import create_app
from examples.search.collection import Collection
from examples.search.settings import SearchSettings
from tests.acceptance.search.conftest import pipeline
from tests.acceptance.watching.test_browser import OPTIONS
from tests.processes import PATIENCE_S, linux_only, program
from tests.search_app import QUERY, WordEmbedder, post, served

pytestmark = linux_only


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=1000 * PATIENCE_S)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("app")
    settings = SearchSettings(collection=collection.folder, milvus_uri=str(folder / "milvus.db"))
    with served(create_app(settings, pipeline(), WordEmbedder())) as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """Yield the page, which must log no error and send no request to another server."""
    page = browser.new_page(base_url=url, viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: faults.extend(elsewhere(request.url, url)))
    page.goto("/")
    yield page
    page.close()
    assert faults == []


def elsewhere(address: str, url: str) -> list[str]:
    return [] if address.startswith((url, "data:")) else [address]


def names(page: Page, order: str) -> list[str]:
    return list(page.locator(f"#{order} li .name").all_inner_texts())


def test_both_orders_are_shown_side_by_side_with_the_moves(page: Page, url: str) -> None:
    page.get_by_label("Query").fill(QUERY)
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#after li")).to_have_count(5)
    expect(page.locator("#before li")).to_have_count(5)
    expect(page.get_by_role("heading", name="Reranked by stub")).to_be_visible()

    found = post(f"{url}/search", {"query": QUERY, "compare": True})
    assert names(page, "before") == [each["chunk"]["chunk_id"] for each in found["vector_results"]]
    assert names(page, "after") == [each["chunk"]["chunk_id"] for each in found["results"]]

    moves = page.locator("#after li .move").all_inner_texts()
    assert moves == [
        shown_move(each["vector_rank"], rank) for rank, each in enumerate(found["results"], 1)
    ]
    in_both = {*names(page, "before")} & {*names(page, "after")}
    expect(page.locator("#lines line")).to_have_count(len(in_both))
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "search.png")


def shown_move(was: int, now: int) -> str:
    if was == now:
        return "unchanged"
    return f"{'▲' if now < was else '▼'} {abs(was - now)} (was {was})"


def test_a_sample_query_is_a_click_away(page: Page, collection: Collection) -> None:
    second = collection.queries()[1]
    page.get_by_role("button", name=second).click()
    expect(page.locator("#after li")).to_have_count(5)
    expect(page.get_by_label("Query")).to_have_value(second)
    expect(page.get_by_role("status")).to_contain_text(re.compile(r"reranking \d+ ms"))


def test_documents_cannot_run_scripts(page: Page) -> None:
    page.evaluate(
        """show({reranked: true, model: "<b>m</b>", results: [{vector_rank: 1, vector_score: 1,
           score: 1, chunk: {chunk_id: "<i>x</i>", text: "<img src=x onerror=alert(1)>"}}],
           vector_results: []})"""
    )
    expect(page.locator("#after .text")).to_have_text("<img src=x onerror=alert(1)>")
    expect(page.locator("#after .name")).to_have_text("<i>x</i>")
    assert page.locator("main img, main i, main b").count() == 0


def test_results_that_are_not_reranked_say_why(
    browser: Browser, collection: Collection, tmp_path: Path
) -> None:
    settings = SearchSettings(
        collection=collection.folder, milvus_uri=str(tmp_path / "milvus.db"), rerank_timeout_s=0.1
    )
    slow = pipeline("stub:pairs_per_s=50", vector_top_k=10)
    with served(create_app(settings, slow, WordEmbedder())) as address:
        page = browser.new_page(base_url=address)
        page.goto("/")
        page.get_by_label("Query").fill(QUERY)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Not reranked")).to_be_visible()
        expect(page.get_by_role("status")).to_contain_text("Reranking took longer than 0.1 s.")
        assert names(page, "before") == names(page, "after")
        page.close()


def test_an_error_of_the_server_is_shown(browser: Browser, url: str) -> None:
    page = browser.new_page(base_url=url)
    page.goto("/")
    page.route(
        "**/search",
        lambda route: route.fulfill(status=503, json={"detail": "the vector search failed"}),
    )
    page.get_by_label("Query").fill(QUERY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text(
        "The search failed (503): the vector search failed"
    )
    page.close()
