"""How a worker's log looks: lines for people, or with `--log-format json` an object a line.

As JSON, all that the worker's processes say is a line of the log: what Celery prints, what others
print, warnings, and errors with their tracebacks.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
from typing import Any, get_args

import click
from celery import signals
from celery.apps import worker as program
from celery.utils.log import get_multiprocessing_logger

from contract.printable import visible
from worker.runtime.settings import LogFormat

STDERR = 2

#: How the choice reaches children that are no forks.
VARIABLE = "RERANKQ_LOG_FORMAT"

#: Below a warning, these say what lines of ours say too: see
#: `worker.monitoring.job_log` and `worker.engine.checkpoint`.
QUIETED = (
    "celery.app.trace",
    "celery.worker.request",
    "celery.worker.strategy",
    "sentence_transformers",
)


def option(default: LogFormat) -> click.Option:
    """The option of `celery worker`."""
    return click.Option(
        ["--log-format"],
        type=click.Choice(get_args(LogFormat)),
        default=default,
        help="How the log looks: lines of text, or one JSON object a line.",
        show_default=True,
    )


@signals.celeryd_init.connect
def _choose(instance: Any, conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Before Celery says its first word."""
    if options.get("log_format"):
        os.environ[VARIABLE] = options["log_format"]
    if not _is_json():
        return
    instance.quiet = True  # no banner
    conf.worker_redirect_stdouts = True
    program.safe_say = _say
    # Until Celery sets up the log, which removes this handler.
    logging.basicConfig(handlers=[logging.StreamHandler(sys.__stderr__)])
    _format(logging.getLogger())
    logging.captureWarnings(True)


@signals.after_setup_logger.connect
def _set_up(logger: logging.Logger, loglevel: int, **_: Any) -> None:
    for name in QUIETED:
        # Who asks for every detail has it.
        level = logging.NOTSET if loglevel <= logging.DEBUG else max(loglevel, logging.WARNING)
        logging.getLogger(name).setLevel(level)
    _format(logger)
    _format(get_multiprocessing_logger())


@signals.after_setup_task_logger.connect
def _set_up_task_logger(logger: logging.Logger, **_: Any) -> None:
    _format(logger)


def _is_json() -> bool:
    return os.environ.get(VARIABLE) == "json"


def _format(logger: logging.Logger) -> None:
    for handler in logger.handlers:
        if _is_json():
            handler.setFormatter(json_formatter())
        elif not isinstance(handler.formatter, TextFormatter):
            handler.setFormatter(TextFormatter(handler.formatter or logging.Formatter()))


class TextFormatter(logging.Formatter):
    """Makes lines as another formatter does, of which none can be forged.

    What others wrote, such as a job's texts in an error, is shown without control characters, and
    lines after the first one of a record are indented.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        # Other handlers have the record as it is.
        shown = copy.copy(record)
        shown.msg, shown.args = _one_entry(record.getMessage()), None
        if record.exc_info:
            traceback = self._inner.formatException(record.exc_info)
            shown.exc_text = f"    {_one_entry(traceback)}"
        return self._inner.format(shown)


def _one_entry(text: str) -> str:
    return visible(text, keep="\n\t").replace("\n", "\n    ")


def json_formatter() -> logging.Formatter:
    """Makes an object of a record: its time, level, logger, process, message and own fields."""
    # Here and not above: Flower imports this module, on machines that have not installed it.
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        ("levelname", "name", "processName", "process", "message"),
        rename_fields={
            "levelname": "level",
            "name": "logger",
            "processName": "process",
            "process": "pid",
        },
        timestamp="time",
        defaults={"time": None},  # it is added last, and keeps the first place
    )


def _say(message: str, *_: Any) -> None:
    """In place of Celery's own, which signal handlers call: they must not wait for a log's lock."""
    record = logging.LogRecord(program.__name__, logging.WARNING, "", 0, message, None, None)
    os.write(STDERR, f"{json_formatter().format(record)}\n".encode())
