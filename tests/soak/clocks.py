"""Clocks of processes that can be moved forward and back while they run: see `clock.c`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path


def built(folder: Path) -> Path | None:
    """Return the library that moves the clock of a process, or None where it cannot be compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    done = subprocess.run(command, check=False, capture_output=True)
    return library if done.returncode == 0 else None


class Clock:
    """The clock of some processes, in seconds ahead of this machine's."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library = library
        self._file = file
        self.put(0)

    def put(self, ahead_s: int) -> None:
        """Move the clock forward or back."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s}\n")
        new.replace(self._file)

    @property
    def environment(self) -> Mapping[str, str]:
        return {"LD_PRELOAD": str(self._library), "SOAK_CLOCK": str(self._file)}
