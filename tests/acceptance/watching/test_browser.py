"""What a person sees in Flower, in a real browser.

The pictures are kept in the folder that `SCREENSHOTS` names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.acceptance.faults.parts import linux_only
from tests.acceptance.watching.conftest import Watched
from tests.acceptance.watching.parts import LOGIN

CHROMIUM = shutil.which("chromium")

pytestmark = [
    linux_only,
    pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium"),
]

#: It must not reach for its maker's servers, and has no sandbox as root.
OPTIONS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(watched: Watched) -> Iterator[Page]:
    """Of somebody who has logged in."""
    user, _, password = LOGIN.partition(":")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(
            base_url=watched.flower.url,
            http_credentials={"username": user, "password": password},
            viewport={"width": 1600, "height": 800},
        )
        yield page
        browser.close()


def test_who_has_not_logged_in_sees_nothing(watched: Watched) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        response = browser.new_page().goto(f"{watched.flower.url}/tasks")
        assert response is not None
        assert response.status == 401
        browser.close()


def test_the_dashboard_shows_the_worker_and_what_it_did(
    watched: Watched, page: Page, pictures: Path
) -> None:
    page.goto("/")

    row = page.get_by_role("row").filter(has_text=watched.worker.name)
    expect(row).to_contain_text("Online")
    page.screenshot(path=pictures / "flower-workers.png")


def test_the_list_of_tasks_shows_what_was_scored_by_which_model(
    watched: Watched, page: Page, pictures: Path
) -> None:
    page.goto("/tasks")

    def row(job_id: str):
        return page.get_by_role("row").filter(has_text=job_id)

    print(page.content())
    page.screenshot(path=pictures / "flower-tasks.png")
    assert 0
