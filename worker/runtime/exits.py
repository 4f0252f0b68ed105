"""Exit codes and messages for a worker that cannot start."""

from __future__ import annotations

import sys
from typing import NoReturn

#: EX_CONFIG of sysexits.h: a setting is invalid or missing.
EXIT_CONFIG = 78


def exit_misconfigured(message: str) -> NoReturn:
    """Exit with a message on standard error.

    An exception would not do: Celery prints its traceback first, or logs it and continues.
    """
    print(message, file=sys.stderr)  # noqa: T201
    raise SystemExit(EXIT_CONFIG)
