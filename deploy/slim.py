"""Remove from an installed environment what running rerankq does not need; for the Dockerfile.

    python slim.py /opt/rerankq

Packages ship their tests, torch also the headers and test programs to build extensions with. All
bytecode goes as well: the Dockerfile then imports what the image is for, which writes the part of
it that is used.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

#: Below site-packages: folders and files, whatever they hold.
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
    """Remove what is not needed; return how many bytes that was."""
    freed = 0
    for packages in environment.glob("lib/python*/site-packages"):
        for path in unneeded(packages):
            if not path.exists():  # its folder is gone already
                continue
            freed += size(path)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return freed


if __name__ == "__main__":
    sys.stdout.write(f"{slim(Path(sys.argv[1])) / 1e6:,.0f} MB removed\n")
