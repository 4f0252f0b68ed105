"""Folders that Hugging Face's `datasets` writes are read like Parquet files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pytest

from contract.errors import InvalidInput
from contract.settings import Settings
from producer.formats.records import InvalidLines
from producer.rescore.staging import Staging

ROWS = {"qid": [1, 1], "query": ["q", "q"], "docno": ["a", "b"], "text": ["A", None]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the files of `save_to_disk`, in two Arrow streams."""
    table = pyarrow.table(ROWS)
    # The order of the names is not that of the rows.
    names = ["data-b.arrow", "data-a.arrow"]
    for place, name in enumerate(names):
        with (
            pyarrow.OSFile(str(tmp_path / name), "wb") as file,
            pyarrow.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table.slice(place, 1))
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (tmp_path / "state.json").write_text(json.dumps(state))
    (tmp_path / "dataset_info.json").write_text("{}")
    return tmp_path


def staged(path: Path, columns: dict[str, str] | None = None) -> dict[str, list[tuple[str, str]]]:
    with Staging(Settings.load(), InvalidLines(), columns=columns) as staging:
        staging.load_requests(str(path))
        return {
            each.id: list(zip(each.document_ids, each.texts, strict=True))
            for each in staging.staged_queries()
        }


def test_rows_are_read_in_the_order_of_the_dataset(folder: Path) -> None:
    assert staged(folder) == {"1": [("a", "A"), ("b", "")]}
    assert staged(folder, {"input.text": "query"}) == {"1": [("a", "q"), ("b", "q")]}


def test_a_folder_of_the_cache_has_its_files_in_the_order_of_their_names(folder: Path) -> None:
    (folder / "state.json").unlink()
    assert staged(folder) == {"1": [("b", ""), ("a", "A")]}


def test_a_folder_that_cannot_be_read_is_refused_with_a_way_out(folder: Path) -> None:
    path = folder / "data-a.arrow"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(InvalidInput, match="the file cannot be read after row"):
        staged(folder)
    (folder / "state.json").write_text('{"_data_files": []}')
    for each in folder.glob("*.arrow"):
        with pytest.raises(InvalidInput, match="this is an Arrow stream; pass the folder"):
            staged(each)
        each.unlink()
    with pytest.raises(InvalidInput, match="the dataset is empty"):
        staged(folder)
    (folder / "state.json").write_text('{"_indices_data_files": [{}]}')
    with pytest.raises(InvalidInput, match="flatten_indices"):
        staged(folder)
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(InvalidInput, match=r"pass the folder of one, such as \S+/train"):
        staged(folder)
