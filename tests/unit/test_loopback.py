"""Ports for servers of this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from producer.cli.loopback import free_port

LINUX_CLIENT_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_a_free_port_is_different_each_time_and_a_server_can_listen_on_it() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert free_port() != port


@pytest.mark.skipif(not LINUX_CLIENT_PORTS.exists(), reason="the range is read as Linux has it")
def test_a_free_port_cannot_be_taken_by_an_outgoing_connection() -> None:
    first, last = map(int, LINUX_CLIENT_PORTS.read_text().split())
    assert not first <= free_port() <= last
