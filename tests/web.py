"""Requests like those of a browser or Prometheus."""

from __future__ import annotations

import base64
import urllib.request
from urllib.error import HTTPError

import pytest


def fetch(url: str, login: str | None = None, method: str = "GET") -> str:
    """Return the page at an address; raises `HTTPError`."""
    request = urllib.request.Request(url, method=method)  # noqa: S310
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        text: str = response.read().decode()
    return text


def refusal(url: str, login: str | None = None, method: str = "GET") -> int:
    """Return the status of a refused request; fails if it is not refused."""
    with pytest.raises(HTTPError) as refused:
        fetch(url, login, method)
    refused.value.close()
    return refused.value.code
