"""Read the folders in which Hugging Face's `datasets` keeps a dataset: Arrow streams and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from contract.errors import InvalidInput
from producer.files.quoting import shown

_MARKS = ("state.json", "dataset_info.json", "dataset_dict.json")


def is_arrow_folder(path: str) -> bool:
    """Return whether this is a folder of `save_to_disk`, or of the cache of `datasets`."""
    try:
        return any((Path(path) / name).is_file() for name in _MARKS)
    except (OSError, ValueError):
        return False


def column_names(path: str) -> list[str]:
    """Return the names of the columns. Raises `InvalidInput`."""
    import pyarrow

    with pyarrow.OSFile(str(_files(path)[0])) as file, pyarrow.ipc.open_stream(file) as reader:
        return list(reader.schema.names)


def batches(path: str, wanted: Sequence[str], most_rows: int) -> Iterator[Any]:
    """Yield the rows with these columns, a few at a time."""
    import pyarrow

    for each in _files(path):
        with pyarrow.OSFile(str(each)) as file, pyarrow.ipc.open_stream(file) as reader:
            for batch in reader:
                for begin in range(0, batch.num_rows, most_rows):
                    yield batch.slice(begin, most_rows).select(wanted)


def _files(path: str) -> list[Path]:
    """Return the files of the dataset in their order. Raises `InvalidInput`."""
    folder = Path(path)
    if splits := _json(folder / "dataset_dict.json").get("splits"):
        raise InvalidInput(
            f"{shown(path)}: this dataset has several splits; pass the folder of one, such as"
            f" {shown(str(folder / splits[0]))}"
        )
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise InvalidInput(
            f"{shown(path)}: the dataset is a selection of other rows; save it again after"
            " flatten_indices()"
        )
    names = [each["filename"] for each in state.get("_data_files", ())]
    found = [folder / name for name in names] or sorted(folder.glob("*.arrow"))
    if not found and "_data_files" in state:
        raise InvalidInput(f"{shown(path)}: the dataset is empty")
    if not found:
        raise InvalidInput(
            f"{shown(path)}: the folder has no .arrow files; check that it is complete"
        )
    return found


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a file; an empty one if there is no file."""
    if not path.is_file():
        return {}
    try:
        made: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidInput(f"{shown(str(path))}: the file is not valid JSON") from error
    return made
