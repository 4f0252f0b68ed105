"""Nothing that comes from Redis, a hub or a file is run: neither pickles, nor a model's own code.

`test_loading.py` shows that a model's code and pickled weights are refused.
`tests/acceptance/faults/test_deliveries.py` shows that messages of pickles are discarded.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for name in ("contract", "producer", "worker") for path in (ROOT / name).rglob("*.py")
)

#: Modules whose loading runs code that is in the data.
LOADERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
RUNNERS = {"eval", "exec", "__import__"}
ALLOWED = {
    # Flower keeps its state in a shelf, in a folder of this user alone. It opens the shelf itself,
    # a moment after our code has corrected it.
    "worker/monitoring/flower_state.py": ["imports shelve"],
    # Only its `cpu_count`, which reads no data.
    "worker/engine/choice.py": ["imports from joblib"],
    "worker/inprocess/models.py": ["imports from joblib"],
}


def dangers(source: str) -> Iterator[str]:
    """Return the places in the source that may run foreign code."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=modules):
                for module in modules:
                    if module.name.split(".")[0] in LOADERS:
                        yield f"line {node.lineno}: imports {module.name}"
            case ast.ImportFrom(module=str(name)) if name.split(".")[0] in LOADERS:
                yield f"line {node.lineno}: imports from {name}"
            case ast.Call(func=ast.Name(id=name)) if name in RUNNERS:
                yield f"line {node.lineno}: calls {name}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")):
                yield f"line {node.lineno}: calls torch.load"
            case ast.keyword(arg="trust_remote_code", value=value):
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield f"line {node.value.lineno}: trust_remote_code is not False"
            case ast.Constant(value="trust_remote_code"):
                yield f"line {node.lineno}: trust_remote_code in an option"


def test_no_source_runs_code_that_is_not_ours() -> None:
    """Check all of them at once, because a test of each would take longer than reading it."""
    found = {
        str(path.relative_to(ROOT)): [danger.partition(": ")[2] for danger in dangers(text)]
        for path in SOURCES
        if (text := path.read_text())
    }
    assert len(found) > 100
    assert {path: places for path, places in found.items() if places} == ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, dill.session",
        "from pickle import loads",
        "eval('1')",
        "exec(text)",
        "torch.load(path)",
        "CrossEncoder(path, trust_remote_code=True)",
        "CrossEncoder(path, trust_remote_code=trusted)",
        "CrossEncoder(path, **{'trust_remote_code': True})",
    ],
)
def test_what_would_is_found(source: str) -> None:
    assert len(list(dangers(source))) == 1
