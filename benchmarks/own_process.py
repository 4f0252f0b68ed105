"""Call a function in a new process, so that its failure cannot spoil what follows.

After a kernel has failed on a GPU, its process cannot use the GPU any more.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

logger = logging.getLogger(__name__)

#: How long the process may take to exit after it has sent its result.
END_S = 10.0


class ProcessFailed(Exception):
    """The function failed, or its process ended, or it took too long. The message says which."""


def call(function: Callable[..., Any], *arguments: Any, limit_s: float) -> Any:
    """Return the result of a call in a new process. Raises `ProcessFailed`."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(limit_s):
            process.kill()
            raise ProcessFailed(f"it did not end within {limit_s:g} s")
        has_result, result = receiver.recv()
    except EOFError:
        process.join(END_S)
        raise ProcessFailed(f"its process ended with exit code {process.exitcode}") from None
    finally:
        receiver.close()
        process.join(END_S)
        process.kill()
        process.join()
    if not has_result:
        raise ProcessFailed(result)
    return result


def _send(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        sent = True, function(*arguments)
    except Exception as error:
        logger.exception("%s failed", function.__name__)
        sent = False, f"{type(error).__name__}: {error}"
    sender.send(sent)
