"""What the tests stand on: real deployments, and a proxy that cuts connections."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
from anyio.from_thread import BlockingPortal

import drainmark

PATIENCE = 30.0  # seconds, after which something does not come any more


def until(what: str, check: Callable[[], bool]) -> None:
    """Waits until something is so, and fails when that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {PATIENCE:g} s: {what}")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Deployment:
    """A `drainmark up` in a directory of its own. It can be killed and started again on the same data and port."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory, self.options = directory, options
        self.port, self.admin = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        program = os.environ.get("DRAINMARK_PROGRAM")
        if not program:
            raise RuntimeError('DRAINMARK_PROGRAM must name the program: "make python-client" builds and names it')
        arguments = ["--data", str(self.directory / "data"), "--listen", f"127.0.0.1:{self.port}"]
        arguments += ["--admin-listen", f"127.0.0.1:{self.admin}", "--pause-switch", "on", *self.options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DRAINMARK_")}
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "up", *arguments], stderr=log, stdout=log, env=environment)
        until("it is ready", self._ready)

    def _ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError("it ended: " + (self.directory / "log").read_text())
        try:
            return httpx.get(f"http://127.0.0.1:{self.admin}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """Ends it with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is persisted meanwhile."""
        self._pause(True)
        try:
            yield
        finally:
            self._pause(False)

    def _pause(self, paused: bool) -> None:
        url = self.url + "/admin/consumer"

        def done() -> bool:
            answer = httpx.put(url, json={"paused": paused}, trust_env=False).raise_for_status().json()
            return bool(answer["running"]) != paused

        until("the consumer is paused, or goes on", done)


class Proxy:
    """Passes connections on to a deployment, and cuts them when told."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._sent = bytearray()
        self._lose = 0
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, answers: int) -> None:
        """Lets requests through, and loses the next answers: their connections are cut."""
        with self._lock:
            self._lose = answers

    def requests(self, method: str) -> list[bytes]:
        """The first lines of all requests with the method so far."""
        with self._lock:
            return re.findall(method.encode() + rb" /v1\S* HTTP/1\.1\r\n", bytes(self._sent))

    def keys(self) -> list[str]:
        """The idempotency keys of all requests so far."""
        with self._lock:
            return re.findall(r"idempotency-key: (.*?)\r\n", self._sent.decode("latin-1"), re.I)

    def cut(self) -> None:
        """Cuts all connections."""
        with self._lock:
            some, self._open = self._open, []
            self.cuts += 1
        for end in some:
            _cut(end)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    self._open += [client, server]
                for source, target, back in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass, args=(source, target, back), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    lost = back and self._lose > 0
                    if lost:
                        self._lose -= 1
                        self.cuts += 1
                    elif not back:
                        self._sent += data
                if lost:
                    break
                target.sendall(data)
        for end in (source, target):
            _cut(end)


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class Blocked:
    """An AsyncClient that is used as a Client is, so that each test is of both."""

    def __init__(self, portal: BlockingPortal, *arguments: Any, **options: Any) -> None:
        self._portal = portal
        self._client = drainmark.AsyncClient(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, "aclose" if name == "close" else name)

        def call(*arguments: Any, **options: Any) -> Any:
            made = method(*arguments, **options)
            if inspect.isasyncgen(made):
                return self._loop(made)

            async def wait() -> Any:
                return await made

            return self._portal.call(wait)

        return call

    def _loop(self, items: Any) -> Iterator[Any]:
        async def take() -> Any:
            return await anext(items, None)

        try:
            while (item := self._portal.call(take)) is not None:
                yield item
        finally:
            self._portal.call(items.aclose)


def blocked(portal: BlockingPortal, *arguments: Any, **options: Any) -> drainmark.Client:
    return cast("drainmark.Client", Blocked(portal, *arguments, **options))
