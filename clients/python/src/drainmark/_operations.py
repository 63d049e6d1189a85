"""Each thing that can be asked of the API, as steps."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from ._call import Answer, Call, Settings, ask, decode, do, is_printable, path_with, segment
from ._errors import Error, NotFoundError, PositionsError, RejectedError, TimedOut, TransportError
from ._model import (
    JSON,
    Backlog,
    DeadLetter,
    LogInfo,
    Message,
    NewMessage,
    Page,
    Settled,
    State,
    Status,
    Wanted,
    Working,
)
from ._retry import Pace
from ._steps import Give, Sleep, Steps

MANY = "application/x-ndjson"
# The names that the API takes for it. Alone, a message of such a type would be taken for many, and one of CloudEvents' types
# for events.
_MANY_TYPES = {f"application/{name}" for name in (
    "x-ndjson", "ndjson", "jsonl", "x-jsonl", "jsonlines", "x-jsonlines", "json-lines", "x-json-lines",
)}  # fmt: skip
_STEP = 5.0  # seconds for which wait and wait_barrier let the server wait, in one request of many
_STALE_PATIENCE = 30.0  # seconds for which pages looks for a replica that is as new as the one that it has read before
_TOKEN = frozenset("!#$%&'*+-.^_`|~abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def log_path(log: str) -> str:
    return "/v1/logs/" + segment(log)


def messages_path(log: str) -> str:
    return log_path(log) + "/messages"


# --- Appending, and removing -----------------------------------------------------------------------------------------


def append(settings: Settings, log: str, message: NewMessage, wait: float) -> Steps[Status]:
    if _means_more(message.type()) or not _fits_http(message.headers):
        return (yield from append_many(settings, log, [message], wait))
    call = Call("POST", messages_path(log), _body(message, log), wait=wait)
    call.set("Content-Type", message.type())
    for name, value in message.headers.items():
        call.headers.append((f"Drainmark-Header-{name}", value))
    call.set_key(message.key or _new_key(settings))
    return (yield from _appended(settings, call, 1))


def append_many(settings: Settings, log: str, messages: Iterable[NewMessage | bytes | str], wait: float) -> Steps[Status]:
    all_messages = [m if isinstance(m, NewMessage) else NewMessage(m) for m in messages]
    call = Call("POST", messages_path(log), wait=wait)
    if not all_messages:
        raise call.fault("no messages to append")
    call.body = b"".join(_line(call, number, m) for number, m in enumerate(all_messages, 1))
    call.set("Content-Type", MANY)
    if all(m.key for m in all_messages):
        call.repeatable = True
    else:
        call.set_key(_new_key(settings))  # those without a key get it with their number behind it
    return (yield from _appended(settings, call, len(all_messages)))


def _new_key(settings: Settings) -> str:
    """A key for a call that may be made again. Without retries it needs none."""
    return secrets.token_urlsafe(20) if settings.retry.on else ""


def _body(message: NewMessage, log: str) -> bytes:
    try:
        return message.data()
    except UnicodeEncodeError as error:
        raise Call("POST", messages_path(log)).fault(f"the body: {error}") from error


def _line(call: Call, number: int, message: NewMessage) -> bytes:
    """A message as a line of a request of many."""
    line: dict[str, Any] = {}
    try:
        data = message.data()
        try:
            line["body"] = data.decode()
        except UnicodeDecodeError:
            line["body_base64"] = base64.b64encode(data).decode()
        line["content_type"] = message.type()
        if message.key:
            line["key"] = message.key
        if not is_printable(line["content_type"] + (message.key or "")):
            raise call.fault(f"message {number}: its content type and its key must be printable ASCII")
        if message.headers:
            line["headers"] = dict(message.headers)
        return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except (UnicodeEncodeError, TypeError) as error:
        raise call.fault(f"message {number}: {error}") from error


def _means_more(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media in _MANY_TYPES or media.startswith("application/cloudevents")


def _fits_http(headers: Mapping[str, str]) -> bool:
    """Whether the message's headers can be headers of a request and mean the same."""
    return all(name and _TOKEN.issuperset(name) and is_printable(value) for name, value in headers.items())


def _appended(settings: Settings, call: Call, count: int) -> Steps[Status]:
    def read(data: JSON, answer: Answer) -> tuple[Status, Answer]:
        return Status.read(data, answer.backend), answer

    accepted, answer = yield from ask(settings, call, read)
    if accepted.count != count:
        raise call.misunderstood(answer, f"{count} messages were sent and {accepted.count} accepted")
    if accepted.state is State.REJECTED:
        raise _rejected(call, answer, accepted)
    return accepted


def _rejected(call: Call, answer: Answer, outcome: Status) -> Error:
    reason = f"the message is rejected: {outcome.reason}"
    if outcome.rejected and outcome.count > 1:
        least = "" if outcome.rejected.exact else "at least "
        reason = f"{least}{outcome.rejected.count} of {outcome.count} messages are rejected: {outcome.reason}"
    error = RejectedError(reason, method=call.method, path=call.shown)
    answer.told(error)
    error.receipt, error.outcome = outcome.receipt, outcome
    return error


def clear(settings: Settings, log: str, wait: float) -> Steps[Status]:
    return _status(settings, Call("DELETE", messages_path(log), wait=wait))


def trim(settings: Settings, log: str, through: int, wait: float) -> Steps[Status]:
    return _status(settings, Call("POST", path_with(log_path(log) + "/trim", ("through", str(int(through)))), wait=wait))


def erase(settings: Settings, log: str, position: int, wait: float) -> Steps[Status]:
    return _status(settings, Call("DELETE", f"{messages_path(log)}/{int(position)}", wait=wait))


def delete(settings: Settings, log: str, wait: float) -> Steps[Status]:
    return _status(settings, Call("DELETE", log_path(log), wait=wait))


def _status(settings: Settings, call: Call) -> Steps[Status]:
    """Makes a call that is answered with a Status."""
    return ask(settings, call, lambda data, answer: Status.read(data, answer.backend))


# --- Reading ---------------------------------------------------------------------------------------------------------


def page(
    settings: Settings, log: str, after: int, limit: int | None, receipts: str | None, wait: float,
    if_none_match: str | None = None,
) -> Steps[Page]:  # fmt: skip
    query = [("after", str(int(after)))]
    if limit is not None:
        query.append(("limit", str(int(limit))))
    call = Call("GET", path_with(messages_path(log), *query), wait=wait, repeatable=True)
    call.set("Drainmark-Receipt", receipts)
    call.set("If-None-Match", if_none_match)
    answer = yield from do(settings, call, *([304] if if_none_match else []))
    etag = answer.headers.get("ETag", "")
    if answer.status == 304:
        return Page([], 0, 0, 0, etag, True, answer.backend)

    def read(data: JSON, answer: Answer) -> Page:
        of, last, count, first = data["log"], data["last_position"], data["count"], data["first_position"]
        if of != log or not 0 <= count <= last:
            raise ValueError(f"a page of the log {of}, {count} messages up to {last}")
        return Page([Message.read(m) for m in data["messages"]], last, count, first, etag, False, answer.backend)

    return decode(call, answer, read)


def pages(
    settings: Settings,
    log: str,
    after: int,
    limit: int | None,
    receipts: str | None,
    wait: float,
    items: Callable[[Page], Iterable[object]] = lambda page: [page],
) -> Steps[None]:
    """Gives the pages from a position to what is the end then, or items of them. If a replica answers that is older than
    the one before, it is asked again."""
    newest, stale = 0, _Stale(settings, log)
    while True:
        try:
            part = yield from page(settings, log, after, limit, receipts, wait)
        except NotFoundError:
            if not newest:
                raise
            part = None
        if part is None or part.last_position < newest:
            yield from Sleep(stale.pause())
            continue
        newest, stale = part.last_position, _Stale(settings, log)
        _check_page(log, part, after)
        for item in items(part):
            yield from Give(item)
        if part.messages:
            after = part.messages[-1].position
        if max(after, part.cleared) >= newest:
            return


def messages(settings: Settings, log: str, after: int, limit: int | None, receipts: str | None, wait: float) -> Steps[None]:
    """Gives the messages of all pages."""
    return pages(settings, log, after, limit, receipts, wait, lambda page: page.messages)


def _check_page(log: str, part: Page, after: int) -> None:
    """Whether a page behind a position has the messages there in order, and none is left out."""
    after = max(after, part.cleared)
    for expected, message in enumerate(part.messages, after + 1):
        if message.position != expected:
            raise positions_error(log, f"a page goes on from {expected - 1} with {message.position}")
    if not part.messages and part.last_position > after:
        raise positions_error(log, f"a page behind {after} is empty, and the last position is {part.last_position}")


def positions_error(log: str, reason: str) -> Error:
    return PositionsError(f"{reason}: the positions are not 1, 2, 3, …", method="reading", path=messages_path(log))


class _Stale:
    """The wait for a page that is not too old."""

    def __init__(self, settings: Settings, log: str) -> None:
        self._pace, self._log = Pace(settings.retry), log
        self._since: float | None = None

    def pause(self) -> float:
        """How long to pause before the page is asked for again. It fails when that has gone on for too long."""
        self._since = time.monotonic() if self._since is None else self._since
        if time.monotonic() - self._since > _STALE_PATIENCE:
            reason = "the pages are from a state that is older than one that was read before"
            raise TransportError(f"for {_STALE_PATIENCE:g} s: {reason}", method="reading", path=messages_path(self._log))
        return self._pace.next()


def logs(settings: Settings) -> Steps[None]:
    """Gives the logs in order of their names."""
    path = "/v1/logs"
    while True:

        def read(data: JSON, answer: Answer) -> tuple[list[LogInfo], bool]:
            return [LogInfo.read(log) for log in data["logs"]], 'rel="next"' in answer.headers.get("Link", "")

        some, more = yield from ask(settings, Call("GET", path, repeatable=True), read)
        for log in some:
            yield from Give(log)
        if not some or not more:
            return
        path = path_with("/v1/logs", ("after", some[-1].name))


# --- Receipts and barriers -------------------------------------------------------------------------------------------


def status(settings: Settings, receipt: str, log: str | None, wait: float) -> Steps[Status]:
    query = [("log", log)] if log is not None else []
    path = path_with("/v1/receipts/" + segment(receipt), *query)
    return _status(settings, Call("GET", path, wait=wait, repeatable=True))


def barrier(settings: Settings, logs: tuple[str, ...], wait: float) -> Steps[Status]:
    path = path_with("/v1/barriers", *(("log", log) for log in logs))
    return _status(settings, Call("POST", path, wait=wait, repeatable=True))


def barrier_again(settings: Settings, receipt: str, wait: float) -> Steps[Status]:
    return _status(settings, Call("POST", path_with("/v1/barriers", ("receipt", receipt)), wait=wait, repeatable=True))


def wait(settings: Settings, receipt: str, timeout: float | None) -> Steps[Status]:
    begin = Status(receipt, State.PENDING)
    deadline = Deadline(timeout)

    def again(receipt: str, wait: float) -> Steps[Status]:
        return status(settings, receipt, None, wait)

    return (yield from _await(settings, begin, deadline, again))


def wait_barrier(settings: Settings, logs: tuple[str, ...], timeout: float | None) -> Steps[Status]:
    deadline = Deadline(timeout)
    first = yield from barrier(settings, logs, deadline.at_most(_STEP))

    def again(receipt: str, wait: float) -> Steps[Status]:
        return barrier_again(settings, receipt, wait)

    return (yield from _await(settings, first, deadline, again))


class Deadline:
    """When something is to be over, if ever."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    @property
    def over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def at_most(self, seconds: float) -> float:
        """So many seconds, or what is left."""
        return seconds if self._end is None else max(min(seconds, self._end - time.monotonic()), 0.0)


def _await(settings: Settings, now: Status, deadline: Deadline, again: Callable[[str, float], Steps[Status]]) -> Steps[Status]:
    """Asks until the status is settled. A server that answers before the wait is over, because it stops for instance, is
    not asked again at once."""
    pace = Pace(settings.retry)
    while not now.settled:
        if deadline.over:
            error = TimedOut(f"it is {now.state.value} after {deadline.timeout:g} s, the limit", method="waiting for a receipt")
            error.receipt, error.outcome = now.receipt, now
            raise error
        began, step = time.monotonic(), deadline.at_most(_STEP)
        now = yield from again(now.receipt, step)
        if time.monotonic() - began > step / 2:
            pace.reset()
        elif not now.settled:
            yield from Sleep(deadline.at_most(pace.next()))
    return now


# --- The rest --------------------------------------------------------------------------------------------------------


def backlog(settings: Settings) -> Steps[Backlog]:
    return ask(settings, Call("GET", "/v1/backlog", repeatable=True), lambda data, _: Backlog.read(data))


def working(settings: Settings) -> Steps[Working]:
    call = Call("GET", "/v1/status", repeatable=True)
    return ask(settings, call, lambda data, answer: Working.read(data, answer.backend))


def consumers(settings: Settings) -> Steps[Wanted]:
    return ask(settings, Call("GET", "/v1/consumers", repeatable=True), lambda data, _: Wanted.read(data))


def letter_query(log: str | None, reason: str | None, before: datetime | None) -> list[tuple[str, str]]:
    """The query that says which dead letters are meant: those that fit all that is set."""
    query = [(name, value) for name, value in (("log", log), ("reason", reason)) if value is not None]
    if before is not None:
        query.append(("before", before.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")))
    return query


def dead_letters(settings: Settings, query: list[tuple[str, str]]) -> Steps[None]:
    """Gives the open dead letters that are meant."""

    def read(data: JSON, _: Answer) -> tuple[list[DeadLetter], str | None]:
        return [DeadLetter.read(letter) for letter in data["dead_letters"]], data.get("next")

    after: list[tuple[str, str]] = []
    while True:
        call = Call("GET", path_with("/v1/dead-letters", *query, *after), repeatable=True)
        some, next_ = yield from ask(settings, call, read)
        for letter in some:
            yield from Give(letter)
        if not next_:
            return
        after = [("after", next_)]


def count_dead_letters(settings: Settings, query: list[tuple[str, str]]) -> Steps[Settled]:
    call = Call("DELETE", path_with("/v1/dead-letters", *query, ("dry_run", "true")), repeatable=True)
    return ask(settings, call, lambda data, _: Settled.read(data))


def settle_dead_letters(
    settings: Settings, method: str, query: list[tuple[str, str]], progress: Callable[[Settled], object] | None
) -> Steps[Settled]:
    """Retries or discards all that are meant, request after request. Each waits for a while until it is done, so that
    other writes come through."""

    def read(data: JSON, _: Answer) -> tuple[Settled, str | None]:
        return Settled.read(data), data["next"]

    done = Settled()
    after: list[tuple[str, str]] = []
    while True:
        call = Call(method, path_with("/v1/dead-letters", *query, *after), wait=_STEP)
        some, next_ = yield from ask(settings, call, read)
        done += some
        if progress:
            progress(done)
        if next_ is None:
            return done
        after = [("after", next_)]


def retry_dead_letter(settings: Settings, id: str, wait: float) -> Steps[Status]:
    return _status(settings, Call("POST", f"/v1/dead-letters/{segment(id)}/retry", wait=wait))


def discard_dead_letter(settings: Settings, id: str, wait: float) -> Steps[Status]:
    return _status(settings, Call("DELETE", f"/v1/dead-letters/{segment(id)}", wait=wait))
