"""Celery's command line, started so that no other module called `worker` is imported instead.

`rerankq worker` and `rerankq flower` run this file by its path. Celery itself searches the current
folder for an app first, and would load a user's own `worker.py` from there.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run Celery with the arguments of this process, and exit."""
    for package in ("contract", "worker"):
        _require_own(package)
        importlib.import_module(package)  # makes its submodules importable
    # Celery puts the current folder first, unless the path already has it.
    with suppress(FileNotFoundError):
        sys.path.append(str(Path.cwd()))

    from celery.bin.celery import celery

    celery(prog_name="rerankq", auto_envvar_prefix="CELERY")


def _require_own(package: str) -> None:
    """Exit with a message if Python would import another package of this name."""
    spec = importlib.util.find_spec(package)
    found = Path(spec.origin).resolve() if spec and spec.origin else None
    if found == ROOT / package / "__init__.py":
        return
    fault = f"Python would import {found} instead of" if found else "Python cannot find"
    print(  # noqa: T201
        f"Error: {fault} the package {package!r} in {ROOT / package}. Check PYTHONPATH and the"
        " installation of rerankq",
        file=sys.stderr,
    )
    raise SystemExit(os.EX_CONFIG)


if __name__ == "__main__":
    main()
