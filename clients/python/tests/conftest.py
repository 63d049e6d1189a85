from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

import drainmark
from deployments import Deployment, Proxy, blocked

Connect = Callable[..., drainmark.Client]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment for tests that leave it as it was, but for logs of their own."""
    deployment = Deployment(tmp_path_factory.mktemp("shared"))
    yield deployment
    deployment.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Starts deployments of the test's own."""
    started: list[Deployment] = []

    def start(*options: str) -> Deployment:
        directory = tmp_path / str(len(started))
        directory.mkdir()
        started.append(Deployment(directory, *options))
        return started[-1]

    yield start
    for deployment in started:
        deployment.stop()


@pytest.fixture
def proxy(shared: Deployment) -> Iterator[Proxy]:
    made = Proxy(shared.port)
    yield made
    made.close()


@pytest.fixture(params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of both kinds, which are used in the same way."""
    made: list[drainmark.Client] = []
    with start_blocking_portal() as portal:
        make = drainmark.Client if request.param == "Client" else partial(blocked, portal)

        def connect(url: str, **options: Any) -> drainmark.Client:
            made.append(make(url, **options))
            return made[-1]

        yield connect
        for client in made:
            client.close()


@pytest.fixture
def client(connect: Connect, shared: Deployment) -> drainmark.Client:
    return connect(shared.url)


@pytest.fixture
def log(request: pytest.FixtureRequest) -> str:
    """The name of a log that no other test has."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")[:100]
