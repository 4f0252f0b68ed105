"""How a process of the worker's package ends before it has begun."""

from __future__ import annotations

import sys
from typing import NoReturn

#: EX_CONFIG of sysexits.h: a setting is wrong, or missing.
EXIT_CONFIG = 78


def exit_misconfigured(message: str) -> NoReturn:
    """End the process with a line on standard error.

    An error would not do: Celery puts its traceback before it, or logs it and goes on.
    """
    print(message, file=sys.stderr)  # noqa: T201
    raise SystemExit(EXIT_CONFIG)
