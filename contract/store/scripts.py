"""Change the state of a job with the Lua scripts in `contract/store/lua`.

Each change is a script, because it depends on the current state: a job that has ended keeps its
outcome. The same script updates the counters.

A line such as `-- uses: clock, count` names the functions in `lua/shared` that a script needs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, TypeVar

from contract.metrics import ATTEMPTS, DEATHS, JOBS_ACCEPTED
from contract.names import FIRST_SHARED_STEP, STEP_SPAN_S
from contract.store.operation import Operation

T = TypeVar("T")

#: The constants that Lua and Python share, by their names in the scripts.
CONSTANTS: dict[str, int | str] = {
    "STEP_SPAN_S": STEP_SPAN_S,
    "FIRST_SHARED_STEP": FIRST_SHARED_STEP,
    "JOBS_ACCEPTED": JOBS_ACCEPTED.field(),
    "ATTEMPTS": ATTEMPTS.field(),
    "DEATHS": DEATHS.field(),
}


def call(
    name: str,
    keys: Sequence[str],
    arguments: Sequence[str | bytes | int],
    read: Callable[[list[Any]], T],
) -> Operation[T]:
    """Return an operation that runs the script `name`."""
    script = source(name)
    return Operation(lambda pipe: pipe.eval(script, len(keys), *keys, *arguments), read)


@functools.cache
def source(name: str) -> str:
    """Return a script, preceded by the constants and the shared functions that it needs."""
    folder = resources.files("contract.store") / "lua"
    script = (folder / f"{name}.lua").read_text(encoding="utf-8")
    uses = re.search(r"^-- uses: (.+)$", script, re.MULTILINE)
    shared = [
        (folder / "shared" / f"{each}.lua").read_text(encoding="utf-8")
        for each in (uses[1].split(", ") if uses else ())
    ]
    whole = "\n".join([*_constants(), *shared, script])
    return re.sub(r"^--.*\n", "", whole, flags=re.MULTILINE)  # each call sends the whole text


def _constants() -> list[str]:
    return [
        f"local {name} = {value}" if isinstance(value, int) else f"local {name} = '{value}'"
        for name, value in CONSTANTS.items()
    ]
