"""Each Lua script can be loaded, and uses the same names as Python."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest
import redis

from contract.store import scripts

LUA = Path(str(resources.files("contract.store"))) / "lua"
NAMES = sorted(path.stem for path in LUA.glob("*.lua"))
SHARED = sorted(path.stem for path in (LUA / "shared").glob("*.lua"))


def functions_of(file: str) -> list[str]:
    return re.findall(r"^local function (\w+)", (LUA / "shared" / f"{file}.lua").read_text(), re.M)


def code_of(name: str) -> str:
    """Return a script without its comments."""
    return re.sub(r"--.*", "", (LUA / f"{name}.lua").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_script_loads_on_the_server(name: str, client: redis.Redis) -> None:
    assert len(client.script_load(scripts.source(name))) == 40  # its SHA-1, as hexadecimal digits


@pytest.mark.parametrize("name", NAMES)
def test_a_script_names_just_the_shared_files_that_it_calls(name: str) -> None:
    named = re.findall(r"^-- uses: (.+)$", (LUA / f"{name}.lua").read_text(), re.M)
    called = [
        each
        for each in SHARED
        if any(re.search(rf"\b{function}\(", code_of(name)) for function in functions_of(each))
    ]
    assert sorted(each for line in named for each in line.split(", ")) == called


def test_the_scripts_have_all_constants_of_python_and_no_others() -> None:
    lua = "".join(map(code_of, NAMES)) + "".join(
        re.sub(r"--.*", "", (LUA / "shared" / f"{each}.lua").read_text()) for each in SHARED
    )
    without_texts = re.sub(r"'[^']*'", "", lua)
    upper = set(re.findall(r"\b[A-Z][A-Z_]+\b", without_texts)) - {"KEYS", "ARGV"}
    assert upper == set(scripts.CONSTANTS)


def test_a_script_sees_a_constant_as_python_does(client: redis.Redis) -> None:
    constants = scripts.source("add_counts").partition("local function")[0]
    for name, value in scripts.CONSTANTS.items():
        seen = client.eval(f"{constants}\nreturn tostring({name})", 0)
        assert isinstance(seen, bytes)
        assert seen.decode() in (str(value), f"{value:g}" if isinstance(value, int) else "")


def test_every_script_is_called_and_every_called_script_is_there() -> None:
    root = Path(str(resources.files("contract"))).parent
    called = {
        name
        for package in ("contract", "worker")
        for path in (root / package).rglob("*.py")
        for name in re.findall(
            r"scripts\.(?:call|source)\(\s*\"(\w+)\"", path.read_text(encoding="utf-8")
        )
    }
    assert called == set(NAMES)
