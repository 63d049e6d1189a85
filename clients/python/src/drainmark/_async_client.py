"""The client for async code."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

import anyio
import httpx

from . import _operations as operations
from . import _transport as transport
from ._call import Settings
from ._model import (
    Attempt,
    Backlog,
    DeadLetter,
    LogInfo,
    Message,
    NewMessage,
    Page,
    Settled,
    Status,
    Wanted,
    Working,
)
from ._retry import DEFAULT, NEVER, Retry
from ._steps import Close, Course, Give, Open, Read, Sleep, Step, Steps, Token
from ._tail import Tail

T = TypeVar("T")


class AsyncClient:
    """Talks to one deployment, as Client does, from tasks of asyncio or trio. It may be used by many tasks of one event
    loop at the same time. Close it with aclose, or use it with `async with`.

    Its methods are those of Client, and are documented there. What is a loop there is one here, with `async for`. One that
    is left early ends its stream when it is collected, or at once with contextlib.aclosing. To limit the time of a call, use
    asyncio.timeout, or anyio.fail_after.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | Callable[[str], str | Awaitable[str]] | None = None,
        timeout: float = 30.0,
        retry: Retry | None = DEFAULT,
        tls: ssl.SSLContext | None = None,
        connections: int = 64,
        http: httpx.AsyncClient | None = None,
        trace: Callable[[MutableMapping[str, str]], None] | None = None,
        observe: Callable[[Attempt], None] | None = None,
    ) -> None:
        """As those of Client. What token returns may also be awaitable, and http is an httpx.AsyncClient."""
        settings = Settings(url, timeout, retry or NEVER, token is not None, trace, observe)
        self._settings = settings
        self._token = token
        self._own = http is None
        self._http = http or httpx.AsyncClient(**transport.options(tls, connections))

    async def aclose(self) -> None:
        """Closes the connections, if they are the client's own."""
        if self._own:
            await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # Appending, and removing

    async def append(
        self,
        log: str,
        body: bytes | str,
        *,
        content_type: str | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        wait: float = 0,
    ) -> Status:
        """See Client.append."""
        return await self._run(operations.append(self._settings, log, NewMessage(body, content_type, key, headers or {}), wait))

    async def append_many(self, log: str, messages: Iterable[NewMessage | bytes | str], *, wait: float = 0) -> Status:
        """See Client.append_many."""
        return await self._run(operations.append_many(self._settings, log, messages, wait))

    async def clear(self, log: str, *, wait: float = 0) -> Status:
        """See Client.clear."""
        return await self._run(operations.clear(self._settings, log, wait))

    async def trim(self, log: str, through: int, *, wait: float = 0) -> Status:
        """See Client.trim."""
        return await self._run(operations.trim(self._settings, log, through, wait))

    async def erase(self, log: str, position: int, *, wait: float = 0) -> Status:
        """See Client.erase."""
        return await self._run(operations.erase(self._settings, log, position, wait))

    async def delete(self, log: str, *, wait: float = 0) -> Status:
        """See Client.delete."""
        return await self._run(operations.delete(self._settings, log, wait))

    # Reading

    async def page(
        self,
        log: str,
        *,
        after: int = 0,
        limit: int | None = None,
        receipts: str | None = None,
        wait: float = 0,
        if_none_match: str | None = None,
    ) -> Page:
        """See Client.page."""
        return await self._run(operations.page(self._settings, log, after, limit, receipts, wait, if_none_match))

    def pages(
        self, log: str, *, after: int = 0, limit: int | None = None, receipts: str | None = None, wait: float = 0
    ) -> AsyncGenerator[Page, None]:
        """See Client.pages."""
        return self._iterate(operations.pages(self._settings, log, after, limit, receipts, wait))

    def messages(
        self, log: str, *, after: int = 0, limit: int | None = None, receipts: str | None = None, wait: float = 0
    ) -> AsyncGenerator[Message, None]:
        """See Client.messages."""
        return self._iterate(operations.messages(self._settings, log, after, limit, receipts, wait))

    def tail(self, log: str, *, after: int = 0, timeout: float | None = None) -> AsyncGenerator[Message, None]:
        """See Client.tail."""
        return self._iterate(Tail(self._settings, log, after, timeout).steps())

    def logs(self) -> AsyncGenerator[LogInfo, None]:
        """See Client.logs."""
        return self._iterate(operations.logs(self._settings))

    # Receipts and barriers

    async def status(self, receipt: str, *, log: str | None = None, wait: float = 0) -> Status:
        """See Client.status."""
        return await self._run(operations.status(self._settings, receipt, log, wait))

    async def wait(self, receipt: str, *, timeout: float | None = None) -> Status:
        """See Client.wait."""
        return await self._run(operations.wait(self._settings, receipt, timeout))

    async def barrier(self, *logs: str, wait: float = 0) -> Status:
        """See Client.barrier."""
        return await self._run(operations.barrier(self._settings, logs, wait))

    async def barrier_again(self, receipt: str, *, wait: float = 0) -> Status:
        """See Client.barrier_again."""
        return await self._run(operations.barrier_again(self._settings, receipt, wait))

    async def wait_barrier(self, *logs: str, timeout: float | None = None) -> Status:
        """See Client.wait_barrier."""
        return await self._run(operations.wait_barrier(self._settings, logs, timeout))

    # How the deployment is

    async def backlog(self) -> Backlog:
        """See Client.backlog."""
        return await self._run(operations.backlog(self._settings))

    async def working(self) -> Working:
        """See Client.working."""
        return await self._run(operations.working(self._settings))

    async def consumers(self) -> Wanted:
        """See Client.consumers."""
        return await self._run(operations.consumers(self._settings))

    # Dead letters

    def dead_letters(
        self, *, log: str | None = None, reason: str | None = None, before: datetime | None = None
    ) -> AsyncGenerator[DeadLetter, None]:
        """See Client.dead_letters."""
        return self._iterate(operations.dead_letters(self._settings, operations.letter_query(log, reason, before)))

    async def count_dead_letters(
        self, *, log: str | None = None, reason: str | None = None, before: datetime | None = None
    ) -> Settled:
        """See Client.count_dead_letters."""
        return await self._run(operations.count_dead_letters(self._settings, operations.letter_query(log, reason, before)))

    async def retry_dead_letters(
        self,
        *,
        log: str | None = None,
        reason: str | None = None,
        before: datetime | None = None,
        progress: Callable[[Settled], object] | None = None,
    ) -> Settled:
        """See Client.retry_dead_letters."""
        query = operations.letter_query(log, reason, before)
        return await self._run(operations.settle_dead_letters(self._settings, "POST", query, progress))

    async def discard_dead_letters(
        self,
        *,
        log: str | None = None,
        reason: str | None = None,
        before: datetime | None = None,
        progress: Callable[[Settled], object] | None = None,
    ) -> Settled:
        """See Client.discard_dead_letters."""
        query = operations.letter_query(log, reason, before)
        return await self._run(operations.settle_dead_letters(self._settings, "DELETE", query, progress))

    async def retry_dead_letter(self, id: str, *, wait: float = 0) -> Status:
        """See Client.retry_dead_letter."""
        return await self._run(operations.retry_dead_letter(self._settings, id, wait))

    async def discard_dead_letter(self, id: str, *, wait: float = 0) -> Status:
        """See Client.discard_dead_letter."""
        return await self._run(operations.discard_dead_letter(self._settings, id, wait))

    # How steps are performed

    async def _run(self, steps: Steps[T]) -> T:
        async with _Answers(self._http, self._token) as answers:
            with Course(steps) as course:
                while course.step is not None:
                    await answers.advance(course, course.step)
                return course.result

    async def _iterate(self, steps: Steps[None]) -> AsyncGenerator[Any, None]:
        async with _Answers(self._http, self._token) as answers:
            with Course(steps) as course:
                while course.step is not None:
                    if isinstance(course.step, Give):
                        yield course.step.item
                        course.went(None)
                    else:
                        await answers.advance(course, course.step)


class _Answers:
    """Performs the steps of one call, and closes what they have left open."""

    def __init__(self, http: httpx.AsyncClient, token: str | Callable[[str], str | Awaitable[str]] | None) -> None:
        self._http, self._token = http, token
        self._parts: dict[httpx.Response, AsyncIterator[bytes]] = {}

    async def __aenter__(self) -> _Answers:
        return self

    async def __aexit__(self, *_: object) -> None:
        async with AsyncExitStack() as stack:
            for answer in self._parts:
                stack.push_async_callback(answer.aclose)

    async def advance(self, course: Course[Any], step: Step[Any]) -> None:
        try:
            value = await self._perform(step)
        except Exception as error:
            course.failed(error)
        else:
            course.went(value)

    async def _perform(self, step: Step[Any]) -> object:
        if isinstance(step, Open):
            request = transport.request(self._http, step)
            answer = await self._http.send(request, stream=True, follow_redirects=False)
            self._parts[answer] = answer.aiter_bytes()
            return answer
        if isinstance(step, Read):
            return await anext(self._parts[step.answer], b"")
        if isinstance(step, Token):
            return await self._asked(step.refused)
        if isinstance(step, Close):
            del self._parts[step.answer]
            await step.answer.aclose()
        elif isinstance(step, Sleep):
            await anyio.sleep(step.seconds)
        else:
            raise TypeError(f"an unknown step: {step}")
        return None

    async def _asked(self, refused: str) -> str | None:
        token = self._token(refused) if callable(self._token) else self._token
        return await token if isinstance(token, Awaitable) else token
