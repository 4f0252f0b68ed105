"""The pages name all that there is to set and to watch, and link to what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from contract import metrics as counters
from producer.monitoring import prometheus
from worker.runtime.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
PAGES = [
    path
    for pattern in ("*.md", "docs/*.md", "deploy/*.md", "benchmarks/*.md", "examples/*/*.md")
    for path in sorted(ROOT.glob(pattern))
]


def test_every_setting_is_explained() -> None:
    table = OPERATIONS[OPERATIONS.index("## Every setting") :]
    for name, field in WorkerSettings.model_fields.items():
        variable = field.validation_alias or f"RERANKQ_{name.upper()}"
        assert f"`{variable}`" in table


def test_every_metric_is_explained() -> None:
    counted = [f"rerankq_{counter.name}_total" for counter in counters.ALL]
    gauges = [f"rerankq_{gauge.name}" for gauge in prometheus.GAUGES]
    for name in (*counted, *gauges, "rerankq_redis_up"):
        assert f"`{name}`" in OPERATIONS


def test_every_alert_is_explained() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    for group in yaml.safe_load(rules)["groups"]:
        for rule in group["rules"]:
            assert f"`{rule['alert']}`" in OPERATIONS


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_there_are(page: Path) -> None:
    text = page.read_text()
    headings = {anchor(line) for line in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, heading = target.partition("#")
        if target.startswith(("http://", "https://")):
            continue
        assert not file or (page.parent / file).exists(), target
        assert file or heading in headings, target


def anchor(heading: str) -> str:
    """A heading's anchor, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_paths_in_the_pages_exist() -> None:
    for page in PAGES:
        for path in re.findall(
            r"`((?:contract|producer|worker|tests|docs|deploy)/[\w./-]*)`", page.read_text()
        ):
            assert (ROOT / path).exists(), f"{page.name} names {path}"
