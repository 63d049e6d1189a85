"""Tokens that may be replaced while a client is in use."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

_AGE = 1.0  # seconds for which a token that was read is taken for the file's


def token_file(path: str | os.PathLike[str]) -> Callable[[str], str]:
    """Returns a token for a client that is read from a file, again and again, since somebody may put another one there.
    It is read at once when the token that it had is refused. Space around it does not count. While the file cannot be
    read, calls fail."""
    lock = threading.Lock()
    known, until = "", 0.0

    def token(refused: str) -> str:
        nonlocal known, until
        with lock:
            if known != refused and time.monotonic() < until:
                return known
            text = Path(path).read_text().strip()
            if not text:
                raise ValueError(f"{os.fspath(path)} is empty")
            known, until = text, time.monotonic() + _AGE
            return known

    return token
