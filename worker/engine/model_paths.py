"""Locate the files of a model by its name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from contract.models import BUNDLED, INT8_ADVICE, NO_INT8, ModelName, is_int8
from worker.engine.unusable import UnusableModel

#: Every model on the hub has at least one of these files.
_CONFIGURATIONS = ("config.json", "modules.json")


@dataclass(frozen=True)
class Location:
    """The place of a model's files: a folder, or a name on the hub and a revision."""

    source: str
    #: A commit, tag or branch; None is the default branch, or a folder.
    revision: str | None = None

    @property
    def is_folder(self) -> bool:
        return is_path(self.source)

    def folder(self) -> Path | None:
        """Return the folder with the files: the model's own, or one of the Hugging Face cache.

        It is None if there is none.
        """
        if self.is_folder:
            path = Path(self.source)
            return path if path.is_dir() else None
        for name in _CONFIGURATIONS:
            if found := self.cached_file(name):
                return found.parent
        return None

    def cached_file(self, name: str) -> Path | None:
        """Return a file in the Hugging Face cache, or None if it is not there."""
        # Importing it takes a tenth of a second.
        from huggingface_hub import try_to_load_from_cache

        try:
            found = try_to_load_from_cache(self.source, name, cache_folder(), self.revision)
        except ValueError:  # not a valid name on the hub
            return None
        return Path(found) if isinstance(found, str) else None


def locate(model: str) -> Location:
    """Return where the model's files are.

    Raises `UnusableModel` for a name with a revision that it cannot have, and `FileNotFoundError`
    for a folder that does not exist.
    """
    if model == BUNDLED:
        return Location(str(bundled_path()))
    if is_int8(model) and not Path(model).expanduser().exists():
        raise UnusableModel(NO_INT8, INT8_ADVICE)
    _require_no_revision_of_a_folder(model)
    if is_path(model):
        require_folder(model)
        return Location(str(Path(model).expanduser()))
    name = ModelName.parse(model)
    if not name.has_valid_revision:
        raise UnusableModel(
            f"{name.revision!r} is not a revision",
            "Write MODEL@REVISION with a commit, tag or branch",
        )
    return Location(name.base, name.revision)


def cache_folder() -> str | None:
    """Return the folder of sentence-transformers' cache; None is that of Hugging Face."""
    return os.environ.get("SENTENCE_TRANSFORMERS_HOME")


def _require_no_revision_of_a_folder(name: str) -> None:
    base, at, revision = name.rpartition("@")
    if not at or Path(name).expanduser().exists():
        return
    if base == BUNDLED or (is_path(base) and Path(base).expanduser().is_dir()):
        raise UnusableModel(
            f"only models on the Hugging Face hub have revisions such as {revision!r}, and {base!r}"
            f" is {'part of rerankq' if base == BUNDLED else 'a folder'}",
            f"Use {base!r} without a revision",
        )


def bundled_path() -> Path:
    """Return the folder of the bundled model. Raises `UnusableModel` if it is not installed."""
    try:
        import rerankq_bundled_model
    except ModuleNotFoundError as error:
        raise UnusableModel(
            "the package rerankq-bundled-model is not installed",
            "Install rerankq with its extra 'worker', run pip install ./rerankq_bundled_model in a"
            " checkout of rerankq, or set CROSS_ENCODER_MODEL to another model",
        ) from error
    return rerankq_bundled_model.PATH


def is_path(model: str) -> bool:
    """Return whether the name is a folder: it begins like a path, or the folder exists."""
    return model.startswith(("/", ".", "~")) or Path(model).exists()


def require_folder(model: str) -> None:
    """Raise `FileNotFoundError` if the name is that of a folder that does not exist."""
    if is_path(model) and not Path(model).expanduser().is_dir():
        raise FileNotFoundError("the folder does not exist")
