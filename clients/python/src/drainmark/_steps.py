"""What a call does, apart from how: generators of steps, which the two clients perform, one of them with await.

So everything that is decided (what is sent, when it is sent again, what an answer means) is written once, and a client
only opens, reads, sleeps, and asks for tokens.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

T = TypeVar("T")


class Step(Generic[T]):
    """Something that a client is to do. `yield from` it gives what came of it, or raises what went wrong."""

    def __iter__(self) -> Generator[Step[Any], Any, T]:
        result: T = yield self
        return result


Steps = Generator[Step[Any], Any, T]


@dataclass(frozen=True)
class Token(Step[str]):
    """Ask for the token to show, in place of one that was refused if that is not empty."""

    refused: str


@dataclass(frozen=True)
class Open(Step[httpx.Response]):
    """Send a request, and return its answer when its header is there. The timeout is of connecting, of each write and of
    each read."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes
    timeout: float


@dataclass(frozen=True)
class Read(Step[bytes]):
    """Read the next part of an answer, which is empty at the end. Part by part, so that it can be given up."""

    answer: httpx.Response


@dataclass(frozen=True)
class Close(Step[None]):
    """Close an answer. A client closes by itself what is still open when the steps end, however they do."""

    answer: httpx.Response


@dataclass(frozen=True)
class Sleep(Step[None]):
    """Pause for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Give(Step[None], Generic[T]):
    """Give an item to the loop that takes them. The steps go on when it wants the next one."""

    item: T


class Course(Generic[T]):
    """The steps of one call on their way. step is what is to be done next, None when it is over."""

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self.step: Step[Any] | None = None
        self.result: T
        self.went(None)

    def __enter__(self) -> Course[T]:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends steps that are given up half-way."""
        self._steps.close()

    def went(self, value: object) -> None:
        """Goes on: the step was done, and this came of it."""
        try:
            self.step = self._steps.send(value)
        except StopIteration as over:
            self.step, self.result = None, over.value

    def failed(self, error: Exception) -> None:
        """Goes on: the step failed."""
        try:
            self.step = self._steps.throw(error)
        except StopIteration as over:
            self.step, self.result = None, over.value
