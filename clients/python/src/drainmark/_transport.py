"""What both clients need to perform steps: how a request is made with httpx, and how an httpx client is made."""

from __future__ import annotations

import ssl
from typing import TypedDict

import httpx

from ._steps import Open

_CONNECT = 10.0  # seconds


class Options(TypedDict):
    """Of httpx.Client and httpx.AsyncClient."""

    verify: ssl.SSLContext | bool
    limits: httpx.Limits
    headers: dict[str, str]


def options(tls: ssl.SSLContext | None, connections: int) -> Options:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=connections, keepalive_expiry=90.0)
    return {"verify": True if tls is None else tls, "limits": limits, "headers": {"User-Agent": "drainmark-python"}}


def request(client: httpx.Client | httpx.AsyncClient, step: Open) -> httpx.Request:
    seconds = step.timeout
    times = {"connect": min(_CONNECT, seconds), "read": seconds, "write": seconds, "pool": seconds}
    headers = httpx.Headers(step.headers)
    return client.build_request(step.method, step.url, headers=headers, content=step.body, extensions={"timeout": times})
