"""The client that blocks."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

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


class Client:
    """Talks to one deployment. It may be used by many threads at the same time, and has none of its own. It connects to
    nothing before its first call. Close it, or use it with `with`.

    In every call, wait is for how many seconds the server shall wait before it answers, in whole ones, rounded up. All
    errors are drainmark.Error.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | Callable[[str], str] | None = None,
        timeout: float = 30.0,
        retry: Retry | None = DEFAULT,
        tls: ssl.SSLContext | None = None,
        connections: int = 64,
        http: httpx.Client | None = None,
        trace: Callable[[MutableMapping[str, str]], None] | None = None,
        observe: Callable[[Attempt], None] | None = None,
    ) -> None:
        """
        url is where the API is, without its /v1: "http://localhost:8080", or with a prefix,
        "https://example.org/drainmark". A user and password in it are sent as basic authentication.

        token is what each request shows (Authorization: Bearer), or returns it: it is called before each request with
        "", and again with the token that was refused, if one was. Whoever keeps that one should look for another. A
        request is made again with what it returns then, unless that is the same. token_file makes one of a file.

        timeout is how many seconds one request may take, besides the wait that it asks for. A server that sends an answer
        drop by drop can make it twice that. Event streams may take as long as they like.

        retry says how calls that failed are made again, None not at all.

        tls says whose certificates are trusted, and which certificate is shown. None is for the authorities that httpx
        knows. connections is how many are kept open for the next call. http makes the requests in place of an
        httpx.Client of the client's own. Then tls and connections say nothing, and it is not closed. Redirections are never
        followed: one that leads somewhere else would be another request.

        trace adds the headers to each request that say in which trace it is: with OpenTelemetry it is
        opentelemetry.propagate.inject. observe is called after each request that was made.
        """
        settings = Settings(url, timeout, retry or NEVER, token is not None, trace, observe)
        self._settings = settings
        self._token = token
        self._own = http is None
        self._http = http or httpx.Client(**transport.options(tls, connections))

    def close(self) -> None:
        """Closes the connections, if they are the client's own."""
        if self._own:
            self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Appending, and removing

    def append(
        self,
        log: str,
        body: bytes | str,
        *,
        content_type: str | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        wait: float = 0,
    ) -> Status:
        """Appends one message to a log, creating the log if needed. When it returns, the message is on the durable queue,
        and the status has its receipt: the state is ACCEPTED, or after a wait PERSISTED if it is in the database by then.
        If it turns out within the wait that the message can never be, it raises RejectedError. Without a wait nobody knows
        yet: see wait.

        The content type is by default text/plain; charset=utf-8 for a str, application/octet-stream for bytes. The key
        makes sending the same message again harmless, also from another process. Without one, the client makes a random
        key, so that the message is appended once however often the call is made again. (With retry=None it makes none.)

        If it fails, nothing_done of the error says whether the message certainly is not in the log. If that is false, the
        error's receipt, if it has one, tells later. Otherwise send the message again with the same key, which it must have
        had before.
        """
        return self._run(operations.append(self._settings, log, NewMessage(body, content_type, key, headers or {}), wait))

    def append_many(self, log: str, messages: Iterable[NewMessage | bytes | str], *, wait: float = 0) -> Status:
        """Appends messages in their order, with one request and one receipt. Others' messages can stand between them only
        if there are more than 1,000, or megabytes. The API takes up to 10,000 messages and 8 MiB at once unless it was told
        otherwise. Keys, errors and the wait are as with append, but a call that failed without certainty may have left any
        number of the first messages in the log."""
        return self._run(operations.append_many(self._settings, log, messages, wait))

    def clear(self, log: str, *, wait: float = 0) -> Status:
        """Removes the messages of a log that were accepted before it. Positions go on behind them. The state is ACCEPTED,
        or after a wait PERSISTED once it is done. It is made again only if it was certainly not done: a second one would
        take with it what was appended in between."""
        return self._run(operations.clear(self._settings, log, wait))

    def trim(self, log: str, through: int, *, wait: float = 0) -> Status:
        """Removes the messages of a log up to a position, or all if it is shorter. Otherwise it is as clear. A second one
        removes what was appended in between up to that position, which is nothing unless the log was shorter."""
        return self._run(operations.trim(self._settings, log, through, wait))

    def erase(self, log: str, position: int, *, wait: float = 0) -> Status:
        """Erases the message at a position: that, its id and times stay, and what it held is gone. Nothing happens if there
        is no such message. Otherwise it is as clear. A second one erases what came to that position in between, if
        anything did."""
        return self._run(operations.erase(self._settings, log, position, wait))

    def delete(self, log: str, *, wait: float = 0) -> Status:
        """Deletes a log: reading it raises NotFoundError, and it is in no list until something is written to it again.
        Positions go on then. Otherwise it is as clear."""
        return self._run(operations.delete(self._settings, log, wait))

    # Reading

    def page(
        self,
        log: str,
        *,
        after: int = 0,
        limit: int | None = None,
        receipts: str | None = None,
        wait: float = 0,
        if_none_match: str | None = None,
    ) -> Page:
        """Reads a page of a log, which begins behind a position. It has limit messages at most, 100 if it is None, and may
        have fewer although there are more. A log that nobody has written to raises NotFoundError.

        With receipts (see merge) the page comes from a state that has their writes, on whichever backend and replica.
        While the backend does not have them yet it waits, and then NotReachedError is raised.

        if_none_match is the etag of an earlier page: if that is still the same, it is not sent again."""
        return self._run(operations.page(self._settings, log, after, limit, receipts, wait, if_none_match))

    def pages(
        self, log: str, *, after: int = 0, limit: int | None = None, receipts: str | None = None, wait: float = 0
    ) -> Generator[Page, None, None]:
        """Reads a log page by page, from behind a position to what is its end then. PositionsError says that a message is
        missing that was not cleared. If a replica answers that is older than the one before, it is asked again."""
        return self._iterate(operations.pages(self._settings, log, after, limit, receipts, wait))

    def messages(
        self, log: str, *, after: int = 0, limit: int | None = None, receipts: str | None = None, wait: float = 0
    ) -> Generator[Message, None, None]:
        """Gives the messages of all pages. limit is that of a page."""
        return self._iterate(operations.messages(self._settings, log, after, limit, receipts, wait))

    def tail(self, log: str, *, after: int = 0, timeout: float | None = None) -> Generator[Message, None, None]:
        """Follows a log behind a position: first what is there, then each message as soon as it is persisted. 0 is the
        beginning, and a page's last_position is the end. The log need not exist yet.

        When its connection breaks, or is silent for 45 seconds, it opens another one where it was, whatever retry says,
        and waits longer each time that brings nothing. So it gives each message once and in order. If positions are left
        out it asks whether they were cleared. If not, or if they go back, it raises PositionsError. Answers that will stay
        the same end it too.

        After timeout seconds it raises TimedOut. That is looked at whenever something comes, and a server that has nothing
        to say says so every 15 seconds, so it can be as much later."""
        return self._iterate(Tail(self._settings, log, after, timeout).steps())

    def logs(self) -> Generator[LogInfo, None, None]:
        """Gives the logs in order of their names."""
        return self._iterate(operations.logs(self._settings))

    # Receipts and barriers

    def status(self, receipt: str, *, log: str | None = None, wait: float = 0) -> Status:
        """Asks what became of a receipt's writes. It waits (for 60 s at most, unless the server was told otherwise) until
        they are persisted or rejected. A merged receipt is treated as one, and the answer has a shorter one.

        With a log it also says where the messages stand in it, once they are persisted: those that are among its newest
        1,000, of a receipt of at most 100 records."""
        return self._run(operations.status(self._settings, receipt, log, wait))

    def wait(self, receipt: str, *, timeout: float | None = None) -> Status:
        """Asks until a receipt's writes are PERSISTED or REJECTED, and returns which. After timeout seconds it raises
        TimedOut, with what was known last as outcome: PENDING, or STALLED with the reason."""
        return self._run(operations.wait(self._settings, receipt, timeout))

    def barrier(self, *logs: str, wait: float = 0) -> Status:
        """Asks whether everything is persisted that was accepted before it, by whomever: in the named logs, or in all. The
        state is REACHED, or else PENDING, or STALLED with a reason. Records that are set aside do not keep a barrier from
        being reached: set_aside counts them, for all logs that share a partition with the named ones."""
        return self._run(operations.barrier(self._settings, logs, wait))

    def barrier_again(self, receipt: str, *, wait: float = 0) -> Status:
        """Asks again for a barrier, by the receipt that was answered last."""
        return self._run(operations.barrier_again(self._settings, receipt, wait))

    def wait_barrier(self, *logs: str, timeout: float | None = None) -> Status:
        """Returns when a barrier is REACHED. After timeout seconds it raises TimedOut, as wait does."""
        return self._run(operations.wait_barrier(self._settings, logs, timeout))

    # How the deployment is

    def backlog(self) -> Backlog:
        """Asks what is accepted and not yet persisted. To know that everything is persisted, use wait_barrier."""
        return self._run(operations.backlog(self._settings))

    def working(self) -> Working:
        """Asks whether an append would be accepted now, whether anything can be read, and whether what is accepted gets
        persisted. That it returns means that a backend has answered, also when nothing works."""
        return self._run(operations.working(self._settings))

    def consumers(self) -> Wanted:
        """Asks how many consumers are wanted now, as an autoscaler does."""
        return self._run(operations.consumers(self._settings))

    # Dead letters

    def dead_letters(
        self, *, log: str | None = None, reason: str | None = None, before: datetime | None = None
    ) -> Generator[DeadLetter, None, None]:
        """Gives the open dead letters that fit all that is set: of a log, with a reason that begins so, set aside before a
        time."""
        return self._iterate(operations.dead_letters(self._settings, operations.letter_query(log, reason, before)))

    def count_dead_letters(
        self, *, log: str | None = None, reason: str | None = None, before: datetime | None = None
    ) -> Settled:
        """Counts the dead letters that retry_dead_letters and discard_dead_letters would settle. Something must be set. A
        before of now means all. Missing records are not among them."""
        return self._run(operations.count_dead_letters(self._settings, operations.letter_query(log, reason, before)))

    def retry_dead_letters(
        self,
        *,
        log: str | None = None,
        reason: str | None = None,
        before: datetime | None = None,
        progress: Callable[[Settled], object] | None = None,
    ) -> Settled:
        """Has all matching dead letters tried again. It goes on from request to request. Each waits for a while until its
        retries are done, so that other writes come through. It returns how many were accepted, and how many are known to
        have been refused again. progress is told that after each request, so also of what was done before an error."""
        query = operations.letter_query(log, reason, before)
        return self._run(operations.settle_dead_letters(self._settings, "POST", query, progress))

    def discard_dead_letters(
        self,
        *,
        log: str | None = None,
        reason: str | None = None,
        before: datetime | None = None,
        progress: Callable[[Settled], object] | None = None,
    ) -> Settled:
        """Gives all matching dead letters up, as retry_dead_letters has them tried again."""
        query = operations.letter_query(log, reason, before)
        return self._run(operations.settle_dead_letters(self._settings, "DELETE", query, progress))

    def retry_dead_letter(self, id: str, *, wait: float = 0) -> Status:
        """Has a dead letter tried again. The state is ACCEPTED, or after a wait PERSISTED once its record is. If the record
        was refused again, the state is REJECTED, which is no error. The letter stays, with the new reason. The call raises
        NotFoundError if there is no such open dead letter, and ConflictError if it is not in a state that allows it. It is
        made again only if it was certainly not done."""
        return self._run(operations.retry_dead_letter(self._settings, id, wait))

    def discard_dead_letter(self, id: str, *, wait: float = 0) -> Status:
        """Gives a dead letter up. Its receipts are still said to be REJECTED, with the reason. States and errors are as
        with retry_dead_letter."""
        return self._run(operations.discard_dead_letter(self._settings, id, wait))

    # How steps are performed

    def _run(self, steps: Steps[T]) -> T:
        with _Answers(self._http, self._token) as answers, Course(steps) as course:
            while course.step is not None:
                answers.advance(course, course.step)
            return course.result

    def _iterate(self, steps: Steps[None]) -> Generator[Any, None, None]:
        with _Answers(self._http, self._token) as answers, Course(steps) as course:
            while course.step is not None:
                if isinstance(course.step, Give):
                    yield course.step.item
                    course.went(None)
                else:
                    answers.advance(course, course.step)


class _Answers:
    """Performs the steps of one call, and closes what they have left open."""

    def __init__(self, http: httpx.Client, token: str | Callable[[str], str] | None) -> None:
        self._http, self._token = http, token
        self._parts: dict[httpx.Response, Iterator[bytes]] = {}

    def __enter__(self) -> _Answers:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for answer in self._parts:
                stack.callback(answer.close)

    def advance(self, course: Course[Any], step: Step[Any]) -> None:
        try:
            value = self._perform(step)
        except Exception as error:
            course.failed(error)
        else:
            course.went(value)

    def _perform(self, step: Step[Any]) -> object:
        if isinstance(step, Open):
            answer = self._http.send(transport.request(self._http, step), stream=True, follow_redirects=False)
            self._parts[answer] = answer.iter_bytes()
            return answer
        if isinstance(step, Read):
            return next(self._parts[step.answer], b"")
        if isinstance(step, Token):
            return self._token(step.refused) if callable(self._token) else self._token
        if isinstance(step, Close):
            del self._parts[step.answer]
            step.answer.close()
        elif isinstance(step, Sleep):
            time.sleep(step.seconds)
        else:
            raise TypeError(f"an unknown step: {step}")
        return None
