"""The Python program of a page, as a process: `python -m tests.acceptance.page_program PAGE`."""

from __future__ import annotations

import sys

from tests import documented

if __name__ == "__main__":
    (page,) = sys.argv[1:]
    exec(compile(documented.program(page), page, "exec"), {"__name__": "__main__"})  # noqa: S102
