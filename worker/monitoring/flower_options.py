"""Check Flower's own options before it starts, and report an invalid one in one line."""

from __future__ import annotations

import dbm
import importlib
import math
import os
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from contract.printable import visible
from worker.runtime.exits import exit_misconfigured

PREFIX = "FLOWER_"
PROGRAM = "flower"
OPEN_MESSAGE = (
    "Error: Flower requires a login, because anyone who can reach it can read job data and stop"
    " workers. Set FLOWER_BASIC_AUTH=USER:PASSWORD, or set RERANKQ_FLOWER_OPEN=true to start Flower"
    " without a login"
)
_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false"}


def read_and_check(arguments: Sequence[str], *, may_be_open: bool) -> None:
    """Read variables, configuration file and command line as Flower will; exit if one is invalid.

    `arguments` are those after `flower`. Flower reads all options again later.
    """
    from flower.command import apply_env_options, apply_options
    from tornado.options import options

    _check_variables(options)
    apply_env_options()
    if "--help" in arguments:
        return
    _check_arguments(options, arguments)
    try:
        apply_options(PROGRAM, arguments)
    except FileNotFoundError as error:
        _reject("conf", f"{error.filename} does not exist")
    except Exception as error:  # noqa: BLE001 - a configuration file is a program
        exit_misconfigured(f"Error: invalid options for Flower: {visible(error)}")
    check(options, may_be_open=may_be_open)


def _check_variables(options: Any) -> None:
    """Convert the value of each variable as Flower will; exit with a message if that fails."""
    from flower.utils import strtobool

    for option in options._options.values():  # Flower reads this private name too
        value = os.environ.get(_variable_of(option.name))
        if value is None:
            continue
        convert: Callable[[str], object] = strtobool if option.type is bool else option.type
        try:
            for part in value.split(",") if option.multiple else [value]:
                convert(part)
        except ValueError:
            kind = _TYPE_NAMES.get(option.type, f"of type {option.type.__name__}")
            _reject(option.name, f"must be {kind} (got {value!r})")


def _check_arguments(options: Any, arguments: Sequence[str]) -> None:
    """Parse the arguments one at a time, so that the message names the invalid one."""
    from flower.command import is_flower_option
    from tornado.options import Error

    for argument in filter(is_flower_option, arguments):
        try:
            options.parse_command_line([PROGRAM, argument], final=False)
        except (Error, ValueError) as error:
            exit_misconfigured(
                f"Error: invalid option {visible(argument.partition('=')[0])} for Flower: {error}"
            )


def check(options: Any, *, may_be_open: bool) -> None:
    """Exit with a message if Flower's options are invalid, once all have been read."""
    if not (options.basic_auth or options.auth or may_be_open):
        exit_misconfigured(OPEN_MESSAGE)
    for name, problem in _problems(options):
        _reject(name, problem)


def _problems(options: Any) -> Iterator[tuple[str, str]]:
    if options.basic_auth:
        yield from _bad_logins(options.basic_auth)
    if options.auth:
        yield from _bad_provider(options)
    for name, least in _MINIMUMS.items():
        value = getattr(options, name)
        if value is not None and not least <= value < math.inf:
            yield name, f"must be a number of at least {least:g} (got {value})"
    buckets = options.task_runtime_metric_buckets
    if buckets != sorted(set(buckets)) or any(math.isnan(each) for each in buckets):
        yield "task_runtime_metric_buckets", "must be numbers in ascending order"
    if not re.fullmatch(r"[\w.~/-]*", options.url_prefix or "", re.ASCII):
        yield (
            "url_prefix",
            f"may contain only letters, digits and . _ ~ - / (got {options.url_prefix!r})",
        )
    yield from _unknown_columns(options.tasks_columns)
    if options.certfile or options.keyfile:
        yield from _bad_certificate(options)
    if options.persistent:
        yield from _bad_state_file(Path(options.db).absolute())
    yield from _cannot_listen(options)


#: Minimum values in the unit of each option: seconds, milliseconds, or a count.
_MINIMUMS = {
    "inspect_timeout": 1,
    "max_workers": 1,
    "max_tasks": 1,
    "state_save_interval": 0,
    "purge_offline_workers": 0,
}


def _bad_logins(logins: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the fault of each invalid login, without the login itself, which is secret."""
    for place, login in enumerate(logins, start=1):
        user, colon, password = login.partition(":")
        which = f"login {place} of {len(logins)}"
        shape = "use USER:PASSWORD, and separate several logins with commas"
        if not colon:
            yield "basic_auth", f"{which} has no colon: {shape} (a password cannot contain a comma)"
        elif not user or not password:
            yield "basic_auth", f"{which} has no {'password' if user else 'user'}: {shape}"
        elif user != user.strip() or password != password.strip():
            yield "basic_auth", f"{which} has whitespace around the user or password: {shape}"
        elif not login.isascii() or not login.isprintable():
            yield (
                "basic_auth",
                f"{which} has characters outside printable ASCII, which Flower does not support",
            )


def _bad_provider(options: Any) -> Iterator[tuple[str, str]]:
    # Flower reads these from its options or from the environment.
    for name in ("oauth2_key", "oauth2_secret", "oauth2_redirect_uri"):
        if not (getattr(options, name) or os.environ.get(_variable_of(name))):
            yield name, "must be set when FLOWER_AUTH is set"
    module, _, name = (options.auth_provider or "").rpartition(".")
    try:
        getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError):
        yield (
            "auth_provider",
            "must be a login handler for FLOWER_AUTH, such as flower.views.auth.GithubLoginHandler",
        )


def _unknown_columns(columns: str) -> Iterator[tuple[str, str]]:
    from flower.views.tasks import TASK_COLUMNS

    for column in map(str.strip, columns.split(",")):
        if column not in TASK_COLUMNS:
            yield "tasks_columns", f"{column!r} is not a column: use {', '.join(TASK_COLUMNS)}"


def _bad_certificate(options: Any) -> Iterator[tuple[str, str]]:
    if not (options.certfile and options.keyfile):
        yield "certfile", "must be set together with FLOWER_KEYFILE"
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty passphrase keeps OpenSSL from prompting for one on the terminal.
        context.load_cert_chain(options.certfile, options.keyfile, password="")
        if options.ca_certs:
            context.load_verify_locations(options.ca_certs)
    except (OSError, ValueError) as error:
        yield "certfile", f"the certificate and its FLOWER_KEYFILE cannot be loaded ({error})"


def _bad_state_file(path: Path) -> Iterator[tuple[str, str]]:
    fix = "choose a writable file, or set FLOWER_PERSISTENT=false"
    try:
        # Flower reads the file with pickle, so no other user may be able to write it.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        yield "db", f"cannot create the folder for Flower's state ({error}): {fix}"
        return
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        yield "db", f"cannot write to {path}: {fix}"
    elif _is_foreign(path):
        yield "db", f"{path} is not a state file of Flower, and Flower would rename it: {fix}"


def _is_foreign(path: Path) -> bool:
    # Other kinds of database add a suffix to this name, and have no file with exactly this name.
    expected = ("dbm.gnu", "dbm.sqlite3")
    return path.exists() and path.stat().st_size > 0 and dbm.whichdb(str(path)) not in expected


def _cannot_listen(options: Any) -> Iterator[tuple[str, str]]:
    from tornado.netutil import bind_sockets

    if options.unix_socket:
        folder = Path(options.unix_socket).absolute().parent
        if not os.access(folder, os.W_OK | os.X_OK):
            yield "unix_socket", f"the folder {folder} does not exist or is not writable"
        return
    if not 0 <= options.port <= 65535:  # other numbers would be taken modulo 65,536
        yield "port", f"must be a whole number from 0 to 65535 (got {options.port})"
        return
    try:
        for listening in bind_sockets(options.port, address=options.address):
            listening.close()
    except (OSError, UnicodeError) as error:
        place = f"{options.address}:{options.port}"
        yield "port", f"cannot listen on {place} ({error}): set FLOWER_PORT or FLOWER_ADDRESS"


def _reject(name: str, problem: str) -> NoReturn:
    exit_misconfigured(f"Error: invalid setting {_variable_of(name)}: {visible(problem)}")


def _variable_of(name: str) -> str:
    return f"{PREFIX}{name.replace('-', '_').upper()}"
