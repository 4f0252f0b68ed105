"""The pages explain every setting, metric, alert and command, and their links lead somewhere."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import click
import pytest
import yaml

from contract import errors, records
from contract import metrics as counters
from contract.settings import Settings
from docs import hooks, tables
from producer.cli import main
from producer.http.settings import HttpSettings
from producer.monitoring import prometheus
from tests.prose import messages
from worker.inprocess.pipeline import PipelineSettings
from worker.runtime.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/*.md", "benchmarks/*.md", "examples/*/*.md")
    for path in sorted(ROOT.glob(pattern))
]
MODELS = (WorkerSettings, PipelineSettings, HttpSettings)
SETTINGS = [(model, name) for model in MODELS for name in model.model_fields]


def page_with_tables(page: Path) -> str:
    """Return a page as the site shows it, with its generated tables."""
    return hooks.GENERATED.sub(lambda name: tables.GENERATED[name[1]](), page.read_text())


@pytest.mark.parametrize(("model", "name"), SETTINGS, ids=lambda each: str(each))
def test_every_setting_is_explained_in_sentences(model: type[Settings], name: str) -> None:
    ((variable, _, description),) = tables.setting_rows(model, [name])

    assert f"| `{variable}` |" in page_with_tables(REFERENCE / "settings.md")
    assert re.fullmatch(r"[A-Z].{15,}\.", description), f"{variable}: {description!r}"


def test_every_metric_is_explained() -> None:
    page = page_with_tables(REFERENCE / "metrics.md")
    counted = [f"rerankq_{counter.name}_total" for counter in counters.ALL]
    gauges = [f"rerankq_{gauge.name}" for gauge in prometheus.GAUGES]
    rows = {name: text for name, _, _, text in tables.metric_rows()}

    assert rows.keys() == {*counted, *gauges, "rerankq_redis_up"}
    for name, text in rows.items():
        assert f"| `{name}` |" in page
        assert re.match(r"[A-Z]", text), name
        assert len(text.split()) > 2, name


def test_every_command_and_option_is_explained() -> None:
    page = page_with_tables(REFERENCE / "command-line.md")
    for name, command in main.commands.items():
        assert f"rerankq {name}" in page
        for option in command.params:
            if isinstance(option, click.Option) and name not in ("worker", "flower"):
                assert f"`{option.opts[0]}`" in page
                assert option.help, option.opts


def test_every_exit_code_is_explained() -> None:
    page = page_with_tables(REFERENCE / "exit-codes.md")
    for code in (*range(9), 69, 70, 71, 78, 130):
        assert f"| {code} |" in page


def test_every_alert_is_explained() -> None:
    page = (ROOT / "docs" / "guides" / "monitoring.md").read_text()
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    for group in yaml.safe_load(rules)["groups"]:
        for rule in group["rules"]:
            assert f"`{rule['alert']}`" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_there_are(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        file, _, heading = target.partition("#")
        if target.startswith(("http://", "https://")):
            continue
        there = page.parent / file if file else page
        assert there.exists(), target
        assert not heading or heading in headings(there), target


def headings(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page_with_tables(page), flags=re.DOTALL)
    return {anchor(line) for line in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}


def anchor(heading: str) -> str:
    """Return a heading's anchor, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_paths_in_the_pages_exist() -> None:
    folders = "contract|producer|worker|tests|docs|deploy|benchmarks|examples"
    for page in PAGES:
        for path in re.findall(rf"`((?:{folders})/[\w./-]*)`", page.read_text()):
            assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_the_readme_takes_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


def test_every_quoted_message_is_one_of_the_program() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = [line.replace("...", "code") for line in re.findall(r"\*([^*|]+)\*", page)]
    printed = [
        message.text
        for folder in ("contract", "producer", "worker")
        for path in (ROOT / folder).rglob("*.py")
        for message in messages.of_python(path, path.name)
    ]

    assert len(quoted) > 3
    for text in quoted:
        assert text == os.strerror(errno.ENOSPC) or any(text in each for each in printed), text


def test_every_code_and_error_of_the_page_is_one_of_the_program() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    named = {*re.findall(r"`([A-Z][a-z]+[A-Z]\w+|[a-z]+_[a-z_]+)`", page)}

    assert named > {"ResultExpired", "payload_missing"}
    codes = {each.code for each in vars(errors).values() if hasattr(each, "code")}
    assert named - codes - vars(errors).keys() == {records.WORKER_DIED, "CrossEncoderReranker"}
