"""The reference tables of the site, generated from the code when the site is built."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from contract import metrics
from contract.environment import variable
from contract.settings import Settings
from producer.cli import common, main
from producer.cli.celery_commands import flower, worker
from producer.http.settings import HttpSettings
from producer.monitoring.prometheus import GAUGES, REDIS_UP_HELP
from worker.inprocess.pipeline import PipelineSettings
from worker.runtime.settings import WorkerSettings

Row = Sequence[str]

#: How the help of an option states a default that is no value of the option.
STATED_DEFAULT = re.compile(r" \[default: (.*?)\]")

REDIS_UP = ("rerankq_redis_up", "gauge", "", REDIS_UP_HELP)


def shared_settings() -> str:
    """Return the settings that producers and workers read."""
    return _settings(Settings, Settings.model_fields)


def http_settings() -> str:
    """Return the settings that only the HTTP service reads."""
    own = (name for name in HttpSettings.model_fields if name not in Settings.model_fields)
    return _settings(HttpSettings, own)


def worker_settings() -> str:
    """Return the settings that only workers read."""
    own = (name for name in WorkerSettings.model_fields if name not in Settings.model_fields)
    return _settings(WorkerSettings, own)


def pipeline_settings() -> str:
    """Return the settings of the in-process pipeline."""
    return _settings(PipelineSettings, PipelineSettings.model_fields)


def metric_rows() -> list[Row]:
    """Return the name, type, label and description of each metric."""
    gauges = ((f"rerankq_{each.name}", "gauge", each.label or "", each.help) for each in GAUGES)
    counters = (
        (f"rerankq_{each.name}_total", "counter", each.label or "", each.help)
        for each in metrics.ALL
    )
    return [REDIS_UP, *gauges, *counters]


def metric_table() -> str:
    """Return all metrics as a table."""
    rows = ((f"`{name}`", kind, label, text) for name, kind, label, text in metric_rows())
    return _table(("Metric", "Type", "Label", "Description"), rows)


def exit_codes() -> str:
    """Return the exit codes of `rerankq`, as its help has them."""
    codes = re.findall(r"^ +(\d+) +(.*)$", common.EPILOG, flags=re.MULTILINE)
    return _table(("Code", "Meaning"), codes)


def commands() -> str:
    """Return a section for each command with its usage, description and options."""
    sections = [_section(main, "rerankq", options_only=True)]
    for name, command in main.commands.items():
        if command in (worker, flower):
            continue  # those are Celery's, with Celery's options
        sections.append(_section(command, f"rerankq {name}"))
        if isinstance(command, click.Group):
            sections += [
                _section(each, f"rerankq {name} {below}")
                for below, each in command.commands.items()
            ]
    return "\n\n".join(sections)


GENERATED: dict[str, Callable[[], str]] = {
    "commands": commands,
    "exit_codes": exit_codes,
    "http_settings": http_settings,
    "metrics": metric_table,
    "pipeline_settings": pipeline_settings,
    "shared_settings": shared_settings,
    "worker_settings": worker_settings,
}


def setting_rows(model: type[BaseSettings], names: Iterable[str]) -> list[Row]:
    """Return the variable, default and description of each setting of a model."""
    fields = {name: model.model_fields[name] for name in names}
    return [
        (_variable(model, name, field), _default(field), field.description or "")
        for name, field in fields.items()
    ]


def _settings(model: type[BaseSettings], names: Iterable[str]) -> str:
    rows = setting_rows(model, names)
    return _table(
        ("Variable", "Default", "Description"),
        ((f"`{name}`", default, text) for name, default, text in rows),
    )


def _variable(model: type[BaseSettings], name: str, field: FieldInfo) -> str:
    if not model.model_config.get("env_prefix"):
        return name.upper()
    return str(field.validation_alias or variable(name))


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined or value is None:
        return ""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    return f"{value:,}" if isinstance(value, (int, float)) else f"`{value}`"


def _section(command: click.Command, name: str, *, options_only: bool = False) -> str:
    ctx = click.Context(command, info_name=name)
    lines = [f"## {name}", ""]
    if not options_only:
        usage = " ".join(command.collect_usage_pieces(ctx))
        lines += [_paragraphs(command.help or ""), "", f"```text\n{name} {usage}\n```", ""]
    prefix = name.upper().replace(" ", "_")
    options = [each for each in command.params if isinstance(each, click.Option)]
    rows = [_option(each, prefix) for each in options if each.name not in ("help", "version")]
    return "\n".join((*lines, _table(("Option", "Variable", "Default", "Description"), rows)))


def _option(option: click.Option, prefix: str) -> Row:
    names = ", ".join(f"`{each}`" for each in option.opts)
    if option.metavar:
        names += f" `{option.metavar}`"
    text, default = option.help or "", ""
    if stated := STATED_DEFAULT.search(text):
        text, default = text.replace(stated[0], ""), stated[1]
    elif not option.is_flag and isinstance(option.default, (int, float, str)):
        default = str(option.default)
    variable = option.envvar or f"{prefix}_{option.name}".upper()
    return names, f"`{variable}`", default, _escaped(text)


def _paragraphs(text: str) -> str:
    paragraphs = text.replace("\b", "").split("\n\n")
    return "\n\n".join(_escaped(" ".join(each.split())) for each in paragraphs)


def _table(heads: Row, rows: Iterable[Row]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(each) for each in row)} |" for row in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")
