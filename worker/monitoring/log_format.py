"""The format of a worker's log: lines of text, or with `--log-format json` a JSON object a line.

With JSON, everything that the worker's processes write is an object: what Celery prints, what
other libraries print, warnings, and errors with their tracebacks.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
from typing import Any, get_args

import celery
import click
from celery import signals
from celery.apps import worker as program
from celery.utils.log import get_multiprocessing_logger

from contract.printable import visible
from worker.runtime.app import WorkerApp
from worker.runtime.exits import exit_misconfigured
from worker.runtime.settings import LogFormat

STDERR = 2

#: Holds the chosen format, because children that are spawned inherit nothing but variables.
VARIABLE = "RERANKQ_LOG_FORMAT"

#: Loggers that are silent below warnings, because our own lines say the same: see
#: `worker.monitoring.job_log` and `worker.engine.checkpoint`.
QUIET_LOGGERS = (
    "celery.app.trace",
    "celery.worker.request",
    "celery.worker.strategy",
    "sentence_transformers",
)


def register(app: WorkerApp) -> None:
    """Add the option to `celery worker`, and set up logging as it says."""
    app.user_options["worker"].add(_option(app.context.settings.log_format))
    signals.celeryd_init.connect(_choose)
    signals.after_setup_logger.connect(_set_up_logger)
    signals.after_setup_task_logger.connect(_set_up_task_logger)


def _option(default: LogFormat) -> click.Option:
    return click.Option(
        ["--log-format"],
        type=click.Choice(get_args(LogFormat)),
        default=default,
        help="How the log looks: lines of text, or one JSON object a line.",
        show_default=True,
    )


def _choose(instance: Any, conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Record the chosen format, before Celery prints anything."""
    if options.get("log_format"):
        os.environ[VARIABLE] = options["log_format"]
    if not _is_json():
        return
    instance.quiet = True  # no banner
    conf.worker_redirect_stdouts = True
    _replace_safe_say()
    # For what is logged before Celery sets up the log, which removes this handler.
    logging.basicConfig(handlers=[logging.StreamHandler(sys.__stderr__)])
    _format(logging.getLogger())
    logging.captureWarnings(True)


def _set_up_logger(logger: logging.Logger, loglevel: int, **_: Any) -> None:
    for name in QUIET_LOGGERS:
        # Whoever asks for debug messages gets those of all loggers.
        level = logging.NOTSET if loglevel <= logging.DEBUG else max(loglevel, logging.WARNING)
        logging.getLogger(name).setLevel(level)
    _format(logger)
    _format(get_multiprocessing_logger())


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
    """Formats as another formatter does, but so that no text can forge a line of the log.

    Control characters, for example of a job's texts in an error, are escaped, and all lines of a
    record but the first are indented.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        # Other handlers get the record unchanged.
        shown = copy.copy(record)
        shown.msg, shown.args = _one_entry(record.getMessage()), None
        if record.exc_info:
            traceback = self._inner.formatException(record.exc_info)
            shown.exc_text = f"    {_one_entry(traceback)}"
        return self._inner.format(shown)


def _one_entry(text: str) -> str:
    return visible(text, keep="\n\t").replace("\n", "\n    ")


def json_formatter() -> logging.Formatter:
    """Return a formatter that makes a JSON object of a record, with the record's own fields."""
    # Imported here because Flower imports this module, on machines without that package.
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


def _replace_safe_say() -> None:
    """Have Celery's signal handlers write objects; ends the process if this Celery has changed."""
    if not callable(getattr(program, "safe_say", None)):
        exit_misconfigured(
            f"Error: with Celery {celery.__version__}, --log-format json cannot write all lines as"
            " objects (celery.apps.worker has no safe_say): use --log-format text"
        )
    program.safe_say = _write_object


def _write_object(message: str, *_: Any) -> None:
    """Write a message to standard error without a lock, as a signal handler must."""
    record = logging.LogRecord(program.__name__, logging.WARNING, "", 0, message, None, None)
    os.write(STDERR, f"{json_formatter().format(record)}\n".encode())
