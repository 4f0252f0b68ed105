"""A name may pin a revision: exactly that one is loaded, and it can be told what was loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from contract.errors import ModelUnavailable
from contract.models import ModelName, is_stub, short_name
from tests import hub_cache
from tests.hub_cache import NAME
from tests.unit import tiny_models
from tests.unit.conftest import FreshEngine
from worker.engine import Scorer, load
from worker.engine.model_paths import Location, locate
from worker.engine.revisions import fingerprint

COMMIT = "8a53427bf3ead07eed0f4e8a3bb5c2b47ad7d0ec"
FIRST, SECOND = "a" * 40, "b" * 40
PAIRS = [("a query", "a document"), ("another", "text")]


# Names


@pytest.mark.parametrize(
    ("name", "base", "revision"),
    [
        ("org/name", "org/name", None),
        ("org/name@v1.0", "org/name", "v1.0"),
        (f"name@{COMMIT}", "name", COMMIT),
        ("org/name@refs/pr/1", "org/name", "refs/pr/1"),
        ("bundled@v1", "bundled", "v1"),
        ("/srv/my@models/one", "/srv/my@models/one", None),
        ("./one@v1", "./one@v1", None),
        ("~/one@v1", "~/one@v1", None),
        ("llm:@cf/meta/llama", "llm:@cf/meta/llama", None),
    ],
)
def test_a_name_has_a_base_and_may_have_a_revision(
    name: str, base: str, revision: str | None
) -> None:
    assert ModelName.parse(name) == ModelName(base, revision)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (f"org/name@{COMMIT}", "name@8a53427"),
        ("org/name@refs/pr/1", "name@refs/pr/1"),
        ("org/name@v1.0", "name@v1.0"),
        ("/srv/one@v1", "one@v1"),
    ],
)
def test_the_short_name_has_a_short_commit(name: str, short: str) -> None:
    assert short_name(name) == short


def test_every_form_of_the_stubs_name_is_that_of_the_stub() -> None:
    names = ["stub", "stub:scale=2", "stub@int8", "stub@v1", "stub@v1@int8", "stub:scale=2@v1"]
    assert [name for name in names if not is_stub(name)] == []
    assert not is_stub("stubborn")


@pytest.mark.parametrize(
    "revision",
    ["", "int8@v1", "v1@v2", "a b", "../../etc", "a/../b", "/v1", "v1/", "-v", "v1\n", "é"],
)
def test_a_revision_that_cannot_be_one_is_refused_with_the_form(revision: str) -> None:
    with pytest.raises(ModelUnavailable, match=r"is not a revision. Write MODEL@REVISION with"):
        load(f"{NAME}@{revision}")


@pytest.mark.parametrize("suffix", ["@v1", f"@{COMMIT}"])
def test_only_models_on_the_hub_have_revisions(tmp_path: Path, suffix: str) -> None:
    for model, what in ((tmp_path, "a folder"), ("bundled", "part of rerankq")):
        with pytest.raises(ModelUnavailable, match="only models on the Hugging Face hub") as raised:
            load(f"{model}{suffix}")
        assert f"{str(model)!r} is {what}. Use {str(model)!r} without a revision" in str(
            raised.value
        )
    with pytest.raises(ModelUnavailable, match="no revisions"):
        load("stub@v1")


@pytest.mark.parametrize("name", [NAME, f"{NAME}@v1", "bundled", "/nowhere", "./one@v1"])
def test_8_bit_weights_are_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(ModelUnavailable) as raised:
        load(f"{name}@int8")
    assert str(raised.value).startswith(
        f"model {f'{name}@int8'!r} cannot be used: rerankq no longer has 8-bit weights. Remove"
        " @int8 from the name, and for more speed use a smaller model or a GPU"
    )


def test_a_folder_may_have_an_at_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "one@v1", "one@int8"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("one@v1", "one@int8"):
        assert locate(f"{tmp_path}/{name}") == Location(f"{tmp_path}/{name}")
    assert locate("one@v1") == Location("one@v1")


# A Hugging Face cache, without the hub


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache with two commits of a model: v1 is the first, and main the second."""
    folder = tmp_path_factory.mktemp("cache")
    hub_cache.write(folder, refs={"v1": FIRST, "main": SECOND})
    return folder


@pytest.fixture
def cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(cache))
    return cache


def small(model: str) -> Scorer:
    return load(model, threads=1, max_batch_tokens=512)


def test_each_revision_has_its_own_scores_and_commit(cached: Path) -> None:
    first = small(f"{NAME}@v1")
    second = small(NAME)
    assert (first.revision, second.revision) == (FIRST, SECOND)
    assert second.score(PAIRS) == pytest.approx([1 + score for score in first.score(PAIRS)])
    for name, same in ((f"{NAME}@{FIRST}", first), (f"{NAME}@main", second)):
        again = small(name)
        assert (again.model, again.revision) == (name, same.revision)
        assert again.score(PAIRS) == same.score(PAIRS)


def test_revisions_are_found_in_the_cache_of_hugging_face_without_the_hub(
    fresh_engine: FreshEngine,
) -> None:
    scores = fresh_engine.scores
    commits = {name: commit for name, (commit, _) in scores.items()}
    assert commits == {NAME: SECOND, f"{NAME}@v1": FIRST}
    assert scores[NAME][1] == pytest.approx(1 + scores[f"{NAME}@v1"][1])


@pytest.mark.parametrize("revision", ["v2", "c" * 40])
def test_a_revision_that_is_not_cached_is_never_replaced_by_another(
    cached: Path, revision: str
) -> None:
    with pytest.raises(ModelUnavailable) as raised:
        load(f"{NAME}@{revision}")
    line = str(raised.value)
    assert line.startswith(
        f"model {f'{NAME}@{revision}'!r} cannot be loaded: looked in {cached} and"
    )


# Folders


def test_a_folder_has_a_fingerprint_of_what_scores_depend_on(tmp_path: Path) -> None:
    path = tmp_path / "model"
    tiny_models.bert(path)
    scorer = small(str(path))
    before = fingerprint(path)
    assert scorer.revision == before
    assert len(before) == len("sha256:") + 16

    # It is the same for a copy, and whatever other files there are
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    (copy / "README.md").write_text("changed")
    (copy / "training_args.bin").write_bytes(b"changed")
    (copy / "pytorch_model.bin").write_bytes(b"not loaded, because there are safetensors")
    (copy / "checkpoint-500").mkdir()
    (copy / "checkpoint-500" / "model.safetensors").write_bytes(b"an earlier state")
    assert fingerprint(copy) == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_one_changed_byte_changes_the_fingerprint(tmp_path: Path, name: str) -> None:
    tiny_models.bert(tmp_path)
    before = fingerprint(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[-1] ^= 1
    (tmp_path / name).write_bytes(data)
    assert fingerprint(tmp_path) != before


def test_the_modules_of_a_model_count_too(tmp_path: Path) -> None:
    tiny_models.modernbert_modules(tmp_path, "cls")
    before = fingerprint(tmp_path)
    (weights,) = (tmp_path / "2_Dense").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert fingerprint(tmp_path) != before
