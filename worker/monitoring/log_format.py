"""The format of a worker's log: text, or with `--log-format json` one JSON object per line.

In JSON format, all output of the worker's processes is JSON: Celery's messages, those of other
libraries, warnings, and errors with tracebacks.
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

from contract.printable import reason_of, visible
from worker.runtime.app import WorkerApp
from worker.runtime.exits import exit_misconfigured
from worker.runtime.settings import LogFormat

STDERR = 2

#: Stores the chosen format in a variable, because spawned children inherit only variables.
VARIABLE = "RERANKQ_LOG_FORMAT"

#: Loggers that log only warnings, because our own lines have the same content: see
#: `worker.monitoring.job_log` and `worker.engine.checkpoint`.
QUIET_LOGGERS = (
    "celery.app.trace",
    "celery.worker.request",
    "celery.worker.strategy",
    "sentence_transformers",
)

#: Celery's result backend, which warns with a traceback at each retry while Redis is away.
RETRYING_LOGGER = "celery.backends.base"


def register(app: WorkerApp) -> None:
    """Add the option to `celery worker`, and set up logging accordingly."""
    app.user_options["worker"].add(_option(app.context.settings.log_format))
    signals.celeryd_init.connect(_choose)
    signals.after_setup_logger.connect(_set_up_logger)
    signals.after_setup_task_logger.connect(_set_up_task_logger)


def _option(default: LogFormat) -> click.Option:
    return click.Option(
        ["--log-format"],
        type=click.Choice(get_args(LogFormat)),
        default=default,
        help="Format of the log: lines of text, or one JSON object per line.",
        show_default=True,
    )


def _choose(instance: Any, conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Store the chosen format before Celery prints anything."""
    if options.get("log_format"):
        os.environ[VARIABLE] = options["log_format"]
    if not _is_json():
        return
    instance.quiet = True  # no banner
    conf.worker_redirect_stdouts = True
    _replace_safe_say()
    # For records logged before Celery sets up logging, which removes this handler.
    logging.basicConfig(handlers=[logging.StreamHandler(sys.__stderr__)])
    _format(logging.getLogger())
    logging.captureWarnings(True)


def _set_up_logger(logger: logging.Logger, loglevel: int, **_: Any) -> None:
    for name in QUIET_LOGGERS:
        # At level DEBUG, show the messages of all loggers.
        level = logging.NOTSET if loglevel <= logging.DEBUG else max(loglevel, logging.WARNING)
        logging.getLogger(name).setLevel(level)
    logging.getLogger(RETRYING_LOGGER).addFilter(_reason_for_traceback)
    _format(logger)
    _format(get_multiprocessing_logger())


def _set_up_task_logger(logger: logging.Logger, **_: Any) -> None:
    _format(logger)


def _reason_for_traceback(record: logging.LogRecord) -> bool:
    """Replace the traceback of a warning by the message of its error."""
    if record.levelno == logging.WARNING and record.exc_info and record.exc_info[1]:
        record.msg = f"{record.getMessage()} {reason_of(record.exc_info[1])}"
        record.args = record.exc_info = None
    return True


def _is_json() -> bool:
    return os.environ.get(VARIABLE) == "json"


def _format(logger: logging.Logger) -> None:
    for handler in logger.handlers:
        if _is_json():
            handler.setFormatter(json_formatter())
        elif not isinstance(handler.formatter, TextFormatter):
            handler.setFormatter(TextFormatter(handler.formatter or logging.Formatter()))


class TextFormatter(logging.Formatter):
    """Formats records with another formatter, so that no text can forge a log line.

    Control characters, for example from a job's texts in an error, are escaped. All lines of a
    record after the first are indented.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        # A copy, so that other handlers get the original record.
        shown = copy.copy(record)
        shown.msg, shown.args = _one_entry(record.getMessage()), None
        if record.exc_info:
            traceback = self._inner.formatException(record.exc_info)
            shown.exc_text = f"    {_one_entry(traceback)}"
        return self._inner.format(shown)


def _one_entry(text: str) -> str:
    return visible(text, keep="\n\t").replace("\n", "\n    ")


def json_formatter() -> logging.Formatter:
    """Return a formatter that writes a record as a JSON object, including its extra fields."""
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
        defaults={"time": None},  # added last, but keeps the first place
    )


def _replace_safe_say() -> None:
    """Make Celery's signal handlers write JSON; exit if this version of Celery has changed."""
    if not callable(getattr(program, "safe_say", None)):
        exit_misconfigured(
            f"Error: --log-format json does not support Celery {celery.__version__}, where"
            " celery.apps.worker has no function safe_say. Use --log-format text"
        )
    program.safe_say = _write_object


def _write_object(message: str, *_: Any) -> None:
    """Write a message to standard error without a lock, as a signal handler must."""
    record = logging.LogRecord(program.__name__, logging.WARNING, "", 0, message, None, None)
    os.write(STDERR, f"{json_formatter().format(record)}\n".encode())
