"""Remove files that rerankq does not need from an installed environment, for the Dockerfile.

    python slim.py /opt/rerankq

Packages contain their tests, and torch also contains headers and test programs for building
extensions. All bytecode is removed too. The Dockerfile then imports the main modules, which
compiles the bytecode that is used.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

#: Folders and files below site-packages to remove, whatever they contain.
PATTERNS = (
    "**/__pycache__",
    "**/tests",
    "**/*.a",
    "**/*.h",
    "**/*.pyi",
    "**/*.pxd",
    "**/*.pyx",
    "_distutils_hack",
    "distutils-precedence.pth",
    "pip",
    "pip-*",
    "setuptools",
    "setuptools-*",
    "torch/bin/[!t]*",
    "torch/bin/test*",
    "torch/include",
    "torch/lib/*_test.so",
    "torch/share",
    "torch/test",
)


def unneeded(packages: Path) -> Iterator[Path]:
    for pattern in PATTERNS:
        yield from packages.glob(pattern)


def size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(each.lstat().st_size for each in files)


def slim(environment: Path) -> int:
    """Remove unneeded files, and return their size in bytes."""
    freed = 0
    for packages in environment.glob("lib/python*/site-packages"):
        for path in unneeded(packages):
            if not path.exists():  # removed with its folder
                continue
            freed += size(path)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return freed


if __name__ == "__main__":
    sys.stdout.write(f"removed {slim(Path(sys.argv[1])) / 1e6:,.0f} MB\n")
