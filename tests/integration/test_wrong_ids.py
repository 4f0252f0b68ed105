"""An id that Redis cannot store is a wrong input, whichever call it is passed to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from click.testing import CliRunner

from contract.errors import InvalidInput
from contract.settings import Settings
from producer.cli import main
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient

#: A byte that is not UTF-8, as Python reads it from a command line.
HALF_A_PAIR = "x\udcff"


@pytest.mark.parametrize("method", ["status", "result", "cancel", "forget", "batch", "retry"])
def test_an_id_that_is_not_unicode_is_a_wrong_input(settings: Settings, method: str) -> None:
    async def with_asyncio() -> None:
        async with AsyncRerankClient(settings) as client:
            await getattr(client, method)(HALF_A_PAIR)

    with RerankClient(settings) as client, pytest.raises(InvalidInput, match="a lone surrogate"):
        getattr(client, method)(HALF_A_PAIR)
    with pytest.raises(InvalidInput, match="a lone surrogate"):
        asyncio.run(with_asyncio())


@pytest.mark.parametrize("wrong", [None, ["x"]])
def test_an_id_of_another_type_is_a_wrong_input(settings: Settings, wrong: Any) -> None:
    with RerankClient(settings) as client, pytest.raises(InvalidInput, match="cannot be sent"):
        client.drop(wrong)


@pytest.mark.parametrize("command", [["status"], ["cancel"], ["dead", "show"], ["dead", "drop"]])
def test_a_command_reports_a_wrong_id_in_one_line(settings: Settings, command: list[str]) -> None:
    url = settings.redis_url.get_secret_value()
    ended = CliRunner().invoke(main, [*command, HALF_A_PAIR], env={"RERANKQ_REDIS_URL": url})
    assert ended.exit_code == 2, ended.output
    assert ended.stderr.splitlines() == [
        "Error: an id or text has a lone surrogate, which is not Unicode"
    ]
