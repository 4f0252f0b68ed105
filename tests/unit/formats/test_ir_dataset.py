"""Datasets of ir_datasets are read by their ids, as it reads them itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ir_datasets
import pytest
from click.testing import CliRunner
from ir_datasets.formats import TrecScoredDocs, TsvDocs, TsvQueries
from ir_datasets.util import Download, LocalDownload, RequestsDownload

from contract.errors import InvalidInput
from contract.settings import Settings
from producer.cli import main
from producer.formats import ir_dataset
from producer.formats.records import InvalidLines
from producer.rescore.input_files import InputFiles
from producer.rescore.staging import Staging
from tests.web_files import web_server

Register = Callable[..., str]
DOCS = "d1\tone\nd2\tzwölf\n"
QUERIES = "1\tfirst\n2\tsecond\n"
QRELS = "1 0 d2 2\n"
RUN = "1 Q0 d1 0 1.5 t\n2 Q0 d1 0 1 t\n1 Q0 d2 0 2.5 t\n"


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    """Return a function that registers a dataset, and returns its id."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    made = []

    def register(
        name: str,
        run: str | None = RUN,
        qrels: str = QRELS,
        docs: str = DOCS,
        dataset: Any = None,
    ) -> str:
        files = {"docs": docs, "queries": QUERIES, "qrels": qrels, "run": run or ""}
        for part, text in files.items():
            (tmp_path / f"{name}.{part}").write_text(text)
        paths = [str(tmp_path / f"{name}.{part}") for part in files]
        if dataset is None:
            dataset = ir_datasets.create_dataset(*paths[:3])
            if run is not None:
                scored = TrecScoredDocs(LocalDownload(paths[3]))
                dataset = ir_datasets.datasets.base.Dataset(dataset, scored)
        ir_datasets.registry.register(f"rerankq-tests/{name}", dataset)
        made.append(f"rerankq-tests/{name}")
        return made[-1]

    yield register
    for each in made:
        del ir_datasets.registry._registered[each]


def staged(inputs: InputFiles) -> tuple[dict[str, list[tuple[str, str]]], dict[str, int]]:
    """Return the ids and texts of each query's documents, and the judgments of the first."""
    inputs.check()
    assert not inputs.uses()
    with Staging(Settings.load(), InvalidLines()) as staging:
        inputs.load(staging)
        made = {
            f"{each.id} {each.text}": list(zip(each.document_ids, each.texts, strict=True))
            for each in staging.staged_queries()
        }
        return made, staging.judgments("1")


def test_all_parts_of_a_dataset_are_read(register: Register) -> None:
    assert staged(InputFiles().with_dataset(register("whole"))) == (
        {"1 first": [("d2", "zwölf"), ("d1", "one")], "2 second": [("d1", "one")]},
        {"d2": 2},
    )


def test_files_take_the_place_of_parts(register: Register, tmp_path: Path) -> None:
    run = tmp_path / "mine"
    run.write_text("2 Q0 d2 1 0.5 t\n")
    inputs = InputFiles(run=str(run)).with_dataset(register("without", run=None))
    assert [use.name for use in inputs.uses()] == [str(run)]
    with Staging(Settings.load(), InvalidLines()) as staging:
        inputs = InputFiles(inputs.corpus, inputs.queries, inputs.run)
        assert inputs.load(staging).pairs == 1


def test_a_dataset_without_a_run_needs_one(register: Register) -> None:
    with pytest.raises(InvalidInput, match="has no scoreddocs; pass a run with --run"):
        InputFiles().with_dataset(register("no-run", run=None))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    files = {"/docs": DOCS, "/queries": QUERIES, "/run": RUN}
    with web_server({path: text.encode() for path, text in files.items()}) as address:
        yield address


@pytest.mark.parametrize("mirrors", [1, 2])
def test_what_is_not_in_the_cache_is_downloaded_only_if_the_user_says_so(
    register: Register, web: str, tmp_path: Path, mirrors: int
) -> None:
    def remote(part: str) -> Download:
        sources = [RequestsDownload(f"{web}/{part}")] * mirrors
        return Download(sources, cache_path=str(tmp_path / "cache" / part))

    dataset = ir_datasets.datasets.base.Dataset(
        TsvDocs(remote("docs")), TsvQueries(remote("queries")), TrecScoredDocs(remote("run"))
    )
    dataset_id = register("remote", dataset=dataset)
    with pytest.raises(InvalidInput, match=r"not in the cache of ir_datasets.* pass --download"):
        staged(InputFiles().with_dataset(dataset_id))
    assert not list((tmp_path / "cache").iterdir())

    downloaded = staged(InputFiles(download=True).with_dataset(dataset_id))
    cached = staged(InputFiles().with_dataset(dataset_id))
    assert downloaded == cached
    assert list(cached[0]) == ["1 first", "2 second"]


def test_an_unknown_dataset_and_two_sources_are_refused() -> None:
    result = CliRunner().invoke(main, ["rescore", "--dataset", "beir/none", "--dry-run"])
    assert result.exit_code == 2
    assert "ir_datasets has no dataset 'beir/none'; `ir_datasets list`" in " ".join(
        result.output.split()
    )
    with pytest.raises(InvalidInput, match="either --input or --dataset"):
        InputFiles(requests="in").with_dataset("beir/none")


@pytest.mark.parametrize(
    ("part", "text", "message"),
    [
        ("docs", "d1\tone\n\tzwei\n", r"^ir_datasets:\S+:2: invalid id"),
        ("docs", "d1\tone\nd1\ttwo\n", r"^ir_datasets:\S+:2: duplicate document id 'd1'"),
        ("docs", "", "empty list of docs"),
        ("run", "1 Q0 d1 0 nan t\n", ":1: the score is nan"),
        ("run", "1 Q0 d1 0 high t\n", "cannot read it: could not convert"),
    ],
)
def test_an_invalid_part_is_named(register: Register, part: str, text: str, message: str) -> None:
    dataset_id = register(f"bad-{part}-{len(text)}", **{part: text})
    with pytest.raises(InvalidInput, match=message):
        staged(InputFiles().with_dataset(dataset_id))


def test_without_the_library_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(InvalidInput, match=r"pip install 'rerankq\[datasets\]'"):
        ir_dataset.has_run("beir/scifact/test")
