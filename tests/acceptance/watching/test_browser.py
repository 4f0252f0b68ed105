"""Flower's pages in a real browser.

Screenshots are stored in the folder that `SCREENSHOTS` names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Locator, Page, expect, sync_playwright

from contract import names
from tests.acceptance.watching.conftest import Watched
from tests.flower_process import LOGIN
from tests.processes import PATIENCE_S, linux_only, program
from tests.stub_models import LARGE, SMALL

pytestmark = linux_only

#: It must not connect to its maker's servers, and has no sandbox as root.
OPTIONS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=1000 * PATIENCE_S)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def page(watched: Watched, browser: Browser) -> Iterator[Page]:
    """Yield a page of a user who has logged in."""
    user, _, password = LOGIN.partition(":")
    page = browser.new_page(
        base_url=watched.flower.url,
        http_credentials={"username": user, "password": password},
        viewport={"width": 1600, "height": 800},
    )
    yield page
    page.close()


def test_who_has_not_logged_in_sees_nothing(watched: Watched, browser: Browser) -> None:
    with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
        browser.new_page().goto(f"{watched.flower.url}/tasks")


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

    downgraded = row(page, watched.downgraded)
    expect(downgraded).to_contain_text(f"{names.SCORE_TASK}[{SMALL}]")
    expect(downgraded).to_contain_text("SUCCESS")
    expect(downgraded).to_contain_text(
        re.compile(re.escape(SMALL) + r" \(downgraded\): 2 pairs, .* 2 truncated")
    )
    expect(downgraded).to_contain_text("{'requests': 1, 'pairs': 2}")
    done = row(page, watched.done[0])
    expect(done).to_contain_text(re.compile(re.escape(LARGE) + r": 3 pairs, [\d,]+/s, [\d.]+ s"))
    failed = row(page, watched.failed)
    expect(failed).to_contain_text("FAILURE")
    expect(failed).to_contain_text(f"OutOfMemory: Reranking failed for model {LARGE}")
    for job_id in watched.cancelled:
        expect(row(page, job_id)).to_contain_text("REVOKED")
    page.screenshot(path=pictures / "flower-tasks.png")


def row(page: Page, job_id: str) -> Locator:
    """Return a job's row of the table of tasks."""
    return page.get_by_role("row").filter(has_text=job_id)


def test_a_job_has_a_page_of_its_own(watched: Watched, page: Page, pictures: Path) -> None:
    page.goto("/tasks")
    page.get_by_role("link", name=watched.failed).click()

    told = page.get_by_role("region", name="Task details")
    expect(told).to_contain_text(watched.failed)
    expect(told).to_contain_text(f"OutOfMemory: Reranking failed for model {LARGE}")
    expect(told).to_contain_text("'pairs': 2")
    expect(page.locator("body")).not_to_contain_text("a long text about this and that")
    page.screenshot(path=pictures / "flower-task.png")
