"""Model names, as used in jobs, settings and results."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: The small model that ships with rerankq.
BUNDLED = "bundled"
#: The engine without a model; options may follow a colon: see `worker.engine.stub`.
STUB = "stub"

#: The published models that a job may request, smallest first, and the bundled one.
KNOWN_MODELS = (
    "cross-encoder/ms-marco-TinyBERT-L-2-v2",
    "cross-encoder/ms-marco-MiniLM-L-6-v2",
    "cross-encoder/ms-marco-MiniLM-L-12-v2",
    BUNDLED,
)
DEFAULT_MODEL = "cross-encoder/ms-marco-MiniLM-L-6-v2"

#: Suffix of a name that requested 8-bit weights in earlier versions.
INT8 = "@int8"
NO_INT8 = "rerankq no longer has 8-bit weights"
INT8_ADVICE = "Remove @int8 from the name, and for more speed use a smaller model or a GPU"

#: A name on the Hugging Face hub, and what follows the @. No name on the hub contains an @, and
#: neither do those of folders begin like one, nor those of stubs with options.
_PINNED = re.compile(r"(\w[\w.-]*(?:/[\w.-]+)?)@(.*)", re.ASCII | re.DOTALL)
#: The names of commits, tags and branches.
_REVISION = re.compile(r"(?!int8$)(?!.*(\.\.|//))[A-Za-z0-9][\w.+/-]{0,254}(?<!/)", re.ASCII)
#: A local model has no commit. In its place is this prefix, and a digest of its files.
FINGERPRINT = "sha256:"
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: The number of characters of a commit in a short name, as in Git.
SHORT_COMMIT_CHARS = 7


@dataclass(frozen=True)
class ModelName:
    """The parts of a name of the form `MODEL` or `MODEL@REVISION`."""

    base: str
    #: A commit, tag or branch of the model on the hub. None is the hub's default branch.
    revision: str | None

    @classmethod
    def parse(cls, model: str) -> ModelName:
        """Return the parts of a name, which may be invalid: see `has_valid_revision`.

        An @ in a path or in a name with a colon, such as that of a stub, is a part of the base.
        """
        found = _PINNED.fullmatch(model)
        base, revision = found.groups() if found else (model, None)
        return cls(base, revision)

    @property
    def has_valid_revision(self) -> bool:
        """Return whether the revision is absent, or can be that of a commit, tag or branch."""
        return self.revision is None or _REVISION.fullmatch(self.revision) is not None

    def at(self, revision: str) -> str:
        """Return the name with this revision."""
        return f"{self.base}@{revision}"

    @property
    def short(self) -> str:
        """Return the name without owner or folder, and with a short commit."""
        base = self.base.rstrip("/").rsplit("/", 1)[-1] or self.base
        revision = "" if self.revision is None else f"@{short_revision(self.revision)}"
        return base + revision


def short_name(model: str) -> str:
    """Return the model's name without its owner or folder, for log lines and run tags."""
    return ModelName.parse(model).short


def short_revision(revision: str) -> str:
    """Return the first characters of a commit; a tag or branch as it is."""
    return revision[:SHORT_COMMIT_CHARS] if _COMMIT.fullmatch(revision) else revision


def is_fingerprint(revision: str) -> bool:
    """Return whether a revision is a fingerprint of local files, and not a commit."""
    return revision.startswith(FINGERPRINT)


def is_int8(model: str) -> bool:
    """Return whether the name requests 8-bit weights, which are refused."""
    return model.endswith(INT8)


def is_stub(model: str) -> bool:
    """Return whether the name refers to the stub engine."""
    return ModelName.parse(model).base.partition(":")[0] == STUB
