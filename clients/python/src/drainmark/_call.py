"""One call: what its request says, how often it is made, and what its answer means."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

import httpx

from ._errors import OF_KIND, Error, InvalidError, Kind, ProtocolError, RefusedError, TransportError, UnauthenticatedError
from ._model import JSON, Attempt
from ._retry import NEVER, Pace, Retry
from ._steps import Close, Open, Read, Sleep, Steps, Token

T = TypeVar("T")

MAX_ANSWER = 64 << 20  # bytes: JSON makes 8 MiB of bodies six times that at most
MAX_REFUSAL = 64 << 10  # bytes of what only says no: a problem has a few hundred
SILENCE = 45.0  # seconds after which an event stream is given up: the API's are never silent for more than 15

_PROBLEM = "urn:drainmark:problem:"
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


@dataclass
class Settings:
    """What the calls of a client have in common."""

    url: str
    timeout: float = 30.0
    retry: Retry = NEVER
    token: bool = False
    trace: Callable[[MutableMapping[str, str]], None] | None = None
    observe: Callable[[Attempt], None] | None = None
    silence: float = SILENCE
    limit: int = MAX_ANSWER
    basic: str = ""

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout}: it must be above 0")
        self.url, self.basic = _split_url(self.url)


def _split_url(text: str) -> tuple[str, str]:
    """Returns the URL without a slash at its end, and the basic authentication that it had. Errors never show it: it may
    have a password."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the URL must be like http://host:port or https://host/prefix")
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError("the URL must have no query and no fragment")
    user, at, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    basic = "Basic " + base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode() if at else ""
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")), basic


def segment(text: str) -> str:
    """Escapes a part of a path. A part of dots alone would lead somewhere else."""
    escaped = quote(text, safe="")
    return escaped.replace(".", "%2E") if escaped in (".", "..") else escaped


def path_with(path: str, *query: tuple[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


@dataclass
class Call:
    """What a request says. It can be made any number of times."""

    method: str
    path: str
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    wait: float = 0.0
    repeatable: bool = False
    """Made twice it does what it does once."""

    def __post_init__(self) -> None:
        if not 0 <= self.wait <= 1e9:
            raise self.fault(f"the wait is {self.wait}: it must be seconds, and not negative")

    @property
    def shown(self) -> str:
        """The path for people."""
        return self.path.partition("?")[0]

    def set(self, name: str, value: str | None) -> None:
        """Adds a header, unless it is empty."""
        if not value:
            return
        if not is_printable(value):
            raise self.fault(f"{name} {value[:40]!r}: it must be printable ASCII")
        self.headers.append((name, value))

    def set_key(self, key: str) -> None:
        """Gives the call an idempotency key, as a string of RFC 9651, unless it is empty."""
        if key:
            self.set("Idempotency-Key", '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"')
            self.repeatable = True

    def unsent(self, kind: type[Error], reason: str) -> Error:
        """The error of a call for which no request was made."""
        error = kind(reason, method=self.method, path=self.shown)
        error.nothing_done = True
        return error

    def fault(self, reason: str) -> Error:
        """The error of a call that can be made by nobody."""
        return self.unsent(InvalidError, reason)

    def broken(self, cause: Exception, nothing: bool = False) -> Error:
        """The error of a request that had no answer, or not all of one."""
        error = TransportError(str(cause) or type(cause).__name__, method=self.method, path=self.shown)
        error.attempts, error.retryable, error.nothing_done = 1, True, nothing or isinstance(cause, _NOTHING_SENT)
        return error

    def misunderstood(self, answer: Answer, reason: str) -> Error:
        """The error of an answer that says neither yes nor no in a way that is the API's."""
        return answer.told(ProtocolError(reason, method=self.method, path=self.shown))

    def refused(self, answer: Answer) -> Error:
        """The error of an answer that says no."""
        problem = _problem(answer.body)
        kind = _kind(problem)
        error = answer.told((OF_KIND[kind] if kind else RefusedError)("", method=self.method, path=self.shown))
        error.title, error.detail = problem.get("title", ""), problem.get("detail", "")
        error.receipt = problem.get("receipt") or error.receipt
        error.nothing_done, error.retryable = _proves_nothing(answer.status, kind), _may_pass(answer.status, kind)
        return error


@dataclass(frozen=True)
class Answer:
    """What was answered, whole."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def backend(self) -> str | None:
        """The run of a backend that has answered, if it says so."""
        value: str | None = self.headers.get("Drainmark-Backend")
        return value

    def told(self, error: Error) -> Error:
        """Notes in an error what the answer says."""
        error.status, error.attempts = self.status, 1
        error.receipt = self.headers.get("Drainmark-Receipt")
        error.retry_after = _retry_after(self.headers.get("Retry-After", ""))
        return error


def is_printable(text: str) -> bool:
    return all(" " <= c <= "~" for c in text)


def _problem(body: bytes) -> dict[str, str]:
    """The members of a problem of the API's that are text. Somebody else's has none."""
    try:
        members = json.loads(body)
        problem = {name: value for name, value in members.items() if isinstance(value, str)}
    except (ValueError, AttributeError):
        return {}
    return problem if problem.get("type", "").startswith(_PROBLEM) else {}


def _kind(problem: dict[str, str]) -> Kind | None:
    try:
        return Kind(problem.get("type", "").removeprefix(_PROBLEM))
    except ValueError:
        return None


def _proves_nothing(status: int, kind: Kind | None) -> bool:
    """Whether the answer is from a server that knows that nothing was done. One that refuses a request as 4xx has not
    passed it on, except for the two that report a timeout. A 5xx is made up by a proxy as well, after it has passed the
    request on."""
    if status == 503:
        return kind in (Kind.UNAVAILABLE, Kind.BACKLOG_FULL, Kind.DISK_FULL, Kind.TOO_MANY)
    if status == 408:  # a server that is stopping says so, but a proxy may have passed it on
        return kind == Kind.UNAVAILABLE
    return 400 <= status < 500 and status != 499


def _may_pass(status: int, kind: Kind | None) -> bool:
    """Whether the same request may be answered otherwise later."""
    if status in (408, 429):
        return True
    return status >= 500 and status not in (501, 505) and kind != Kind.MISCONFIGURED


def _retry_after(text: str) -> float:
    """Reads a Retry-After header (RFC 9110): seconds, or a date."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max((parsedate_to_datetime(text) - datetime.now(timezone.utc)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


def do(settings: Settings, call: Call, *accepted: int) -> Steps[Answer]:
    """Makes a call, again and again as Retry says, and returns an answer of 2xx, or of one of the other statuses that are
    accepted. Its error says of all attempts together whether nothing was done."""
    began, pace = time.monotonic(), Pace(settings.retry)
    nothing, receipt, attempts = True, None, 0
    while True:
        try:
            return (yield from _attempt(settings, call, accepted))
        except Error as error:
            nothing = nothing and error.nothing_done
            receipt = error.receipt = error.receipt or receipt
            attempts = error.attempts = attempts + error.attempts
            error.nothing_done = nothing
            if not error.retryable or not (nothing or call.repeatable):
                raise
            pause = pace.next(error.retry_after)
            if not settings.retry.allows(attempts, time.monotonic() - began, pause):
                raise
        yield from Sleep(pause)


def ask(settings: Settings, call: Call, read: Callable[[JSON, Answer], T]) -> Steps[T]:
    """Makes a call and reads its answer."""
    answer = yield from do(settings, call)
    return decode(call, answer, read)


def decode(call: Call, answer: Answer, read: Callable[[JSON, Answer], T]) -> T:
    try:
        return read(json.loads(answer.body), answer)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        kind = answer.headers.get("Content-Type", "")
        raise call.misunderstood(answer, f"{len(answer.body)} bytes of {kind[:80]!r}: {error!r:.100}") from error


@dataclass
class Seen:
    """What is to be told of a request to the observer, if any."""

    settings: Settings
    call: Call
    began: float = field(default_factory=time.monotonic)
    status: int | None = None

    def over(self, error: Error | None) -> None:
        if self.settings.observe and (error is None or error.attempts):
            seconds = time.monotonic() - self.began
            self.settings.observe(Attempt(self.call.method, self.call.shown, seconds, self.status, error))


@contextmanager
def observing(settings: Settings, call: Call) -> Generator[Seen, None, None]:
    seen = Seen(settings, call)
    try:
        yield seen
    except Error as error:
        seen.over(error)
        raise
    except GeneratorExit:  # of an event stream, whose loop wants no more
        seen.over(None)
        raise
    seen.over(None)


def _attempt(settings: Settings, call: Call, accepted: tuple[int, ...]) -> Steps[Answer]:
    """Makes one request and reads its whole answer."""
    limit = settings.timeout + call.wait
    deadline = time.monotonic() + limit
    with observing(settings, call) as seen:
        opened = yield from open_answer(settings, call, limit)
        seen.status = opened.status_code
        body = yield from closing(opened, _read_whole(settings, call, opened, deadline))
        answer = Answer(opened.status_code, opened.headers, body)
        if len(body) > settings.limit:
            raise call.misunderstood(answer, f"the answer has more than {settings.limit} bytes, the limit")
        if answer.status >= 400:
            raise call.refused(answer)
        if answer.status >= 300 and answer.status not in accepted:
            raise call.misunderstood(answer, "a redirection, which is not followed")
        return answer


def closing(opened: httpx.Response, steps: Steps[T]) -> Steps[T]:
    """Takes the steps, and closes the answer behind them. Where they are given up half-way, the client closes it."""
    try:
        result = yield from steps
    except Exception:
        yield from Close(opened)
        raise
    yield from Close(opened)
    return result


def _read_whole(settings: Settings, call: Call, opened: httpx.Response, deadline: float) -> Steps[bytes]:
    """Reads an answer, or at least one byte more than the limit."""
    body = bytearray()
    while len(body) <= settings.limit and (part := (yield from read_part(call, opened))):
        body += part
        if time.monotonic() > deadline:
            raise _cut_off(call, opened, f"not answered within {settings.timeout + call.wait:g} s, the limit")
    return bytes(body)


def read_part(call: Call, opened: httpx.Response) -> Steps[bytes]:
    """Reads the next part of an answer. That the answer had begun proves that something may have been done."""
    try:
        return (yield from Read(opened))
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:
        raise _cut_off(call, opened, f"reading the answer: {error or type(error).__name__}") from error


def _cut_off(call: Call, opened: httpx.Response, reason: str) -> Error:
    error = Answer(opened.status_code, opened.headers, b"").told(TransportError(reason, method=call.method, path=call.shown))
    error.retryable = True
    return error


def open_answer(settings: Settings, call: Call, timeout: float) -> Steps[httpx.Response]:
    """Makes one request. If its token is refused and another one has taken its place meanwhile, it makes another."""
    token = yield from _token(settings, call, "")
    opened = yield from _send(settings, call, token, timeout)
    if not token or not _refuses_token(opened):
        return opened
    try:
        other = yield from _token(settings, call, token)
    except Error:
        return opened  # that it was refused says more
    if other == token:
        return opened
    yield from Close(opened)
    return (yield from _send(settings, call, other, timeout))


def _refuses_token(answer: httpx.Response) -> bool:
    """Whether an answer is about the token: then nothing was done. It is 429 in place of 401 if too many requests with bad
    tokens came from the same address."""
    return answer.status_code == 401 or (answer.status_code == 429 and "WWW-Authenticate" in answer.headers)


def _token(settings: Settings, call: Call, refused: str) -> Steps[str]:
    if not settings.token:
        return ""
    try:
        token = yield from Token(refused)
    except Exception as error:
        raise call.unsent(UnauthenticatedError, f"there is no token: {error}") from error
    if not is_printable(token):
        raise call.unsent(UnauthenticatedError, f"the token of {len(token)} characters must be printable ASCII")
    return token


def _send(settings: Settings, call: Call, token: str, timeout: float) -> Steps[httpx.Response]:
    headers = [*call.headers, ("Accept-Encoding", "identity")]  # a coding would hold events back
    if token or settings.basic:
        headers.append(("Authorization", f"Bearer {token}" if token else settings.basic))
    if call.wait > 0:
        headers.append(("Prefer", f"wait={math.ceil(call.wait)}"))  # the API knows whole seconds only
    if settings.trace:
        traced: dict[str, str] = {}
        settings.trace(traced)
        headers += traced.items()
    try:
        return (yield from Open(call.method, settings.url + call.path, headers, call.body, timeout))
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise call.broken(error) from error
