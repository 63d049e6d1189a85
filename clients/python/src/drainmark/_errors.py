"""Why calls fail: one class for each kind of problem that the API knows, and a few for when it has not answered."""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._model import Status


class Kind(str, Enum):
    """What is wrong, as the type of the API's problems says."""

    INVALID = "invalid"
    INVALID_RECEIPT = "invalid-receipt"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    METHOD = "method"
    CONFLICT = "conflict"
    RECEIPT_EXPIRED = "receipt-expired"
    NOT_REACHED = "not-reached"
    TOO_LARGE = "too-large"
    MEDIA_TYPE = "media-type"
    MISCONFIGURED = "misconfigured"
    INTERNAL = "internal"
    BACKLOG_FULL = "backlog-full"
    DISK_FULL = "disk-full"
    TOO_MANY = "too-many"
    RATE_LIMITED = "rate-limited"
    UNAVAILABLE = "unavailable"
    OUTCOME_UNKNOWN = "outcome-unknown"


class Error(Exception):
    """Why a call failed. Everything that a client raises is one. Its text never has the client's URL or token."""

    kind: Kind | None = None
    """What is wrong, by the API's own word. None if it was not the API that said no, or with a word of a newer server."""

    def __init__(self, reason: str, *, method: str = "", path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        """What went wrong, for people, without the rest of the error's text."""
        self.method = method
        self.path = path
        """Escaped, without the prefix and the query."""
        self.status: int | None = None
        """Of the answer, None if there was none."""
        self.title = ""
        """Of the problem: the same for all of its kind."""
        self.detail = ""
        """Of the problem: names the limit or the value that is at fault."""
        self.retry_after = 0.0
        """In how many seconds to try again, by the server's word. 0 if it says nothing."""
        self.receipt: str | None = None
        """Of writes that may have been done. It tells later what became of them."""
        self.attempts = 0
        """How many requests were made. The rest is of the last one, but nothing_done is about all of them."""
        self.nothing_done = False
        """Whether the call certainly did nothing, and will not do it later either: in none of its attempts was there a
        connection, or the API, or a proxy before it, refused it. False where nobody can know."""
        self.retryable = False
        """Whether the same call may succeed later. It does not say whether that is safe: see nothing_done. A client has
        already made calls again where it is (see Retry)."""

    def __str__(self) -> str:
        parts = [f"{self.method} {self.path}".strip()]
        if self.status is not None:
            parts.append(_status_text(self.status))
        parts += [self.title, self.detail, self.reason]
        text = ": ".join(part[:300] for part in parts if part)
        return f"{text} (attempt {self.attempts})" if self.attempts > 1 else text


def _status_text(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


class TransportError(Error):
    """There was no answer, or not all of one: no connection, a broken one, or a request that took too long."""


class ProtocolError(Error):
    """The answer is not one of Drainmark's API, or too large."""


class PositionsError(Error):
    """The positions of a log have a gap where nothing was cleared, or go back."""


class TimedOut(Error, TimeoutError):
    """What was waited for has not happened in the time that was given. outcome is what was known last."""

    outcome: Status | None = None


class RejectedError(Error):
    """An append was accepted, and then some of its messages, or all, could not be persisted. The others are. outcome
    says which. They are among the dead letters."""

    outcome: Status


class RefusedError(Error):
    """An answer that says no. If it is the API's it is of one of the classes below, and otherwise of a proxy's."""


class InvalidError(RefusedError):
    """The call is malformed or out of range."""

    kind = Kind.INVALID


class InvalidReceiptError(RefusedError):
    """The receipt is malformed, damaged or another deployment's."""

    kind = Kind.INVALID_RECEIPT


class UnauthenticatedError(RefusedError):
    """No token that is known, and only somebody who is known may do this."""

    kind = Kind.UNAUTHENTICATED


class ForbiddenError(RefusedError):
    """It is not granted, or the server does not allow the host name."""

    kind = Kind.FORBIDDEN


class NotFoundError(RefusedError):
    """There is no such log or dead letter."""

    kind = Kind.NOT_FOUND


class MethodError(RefusedError):
    """The path has no such method."""

    kind = Kind.METHOD


class ConflictError(RefusedError):
    """The thing is not in a state that allows it."""

    kind = Kind.CONFLICT


class ReceiptExpiredError(RefusedError):
    """The receipt is too old to be answered."""

    kind = Kind.RECEIPT_EXPIRED


class NotReachedError(RefusedError):
    """The receipts' writes are not visible there yet."""

    kind = Kind.NOT_REACHED


class TooLargeError(RefusedError):
    """A size is over its limit, which the detail names."""

    kind = Kind.TOO_LARGE


class MediaTypeError(RefusedError):
    """The body's type or coding cannot be taken."""

    kind = Kind.MEDIA_TYPE


class MisconfiguredError(RefusedError):
    """Somebody has to repair something first. The server's log says more."""

    kind = Kind.MISCONFIGURED


class InternalError(RefusedError):
    """A fault of the server's own. Its log says more."""

    kind = Kind.INTERNAL


class BacklogFullError(RefusedError):
    """No more is accepted until something has been persisted."""

    kind = Kind.BACKLOG_FULL


class DiskFullError(RefusedError):
    """No more is accepted until somebody has made room on the broker's disk."""

    kind = Kind.DISK_FULL


class TooManyError(RefusedError):
    """Too many waiters, event streams, bodies or answers at once."""

    kind = Kind.TOO_MANY


class RateLimitedError(RefusedError):
    """Whoever asks takes more than their limits allow. retry_after says until when."""

    kind = Kind.RATE_LIMITED


class UnavailableError(RefusedError):
    """The broker or the store does not answer, and nothing was done."""

    kind = Kind.UNAVAILABLE


class OutcomeUnknownError(RefusedError):
    """It may or may not have been done, and the receipt tells."""

    kind = Kind.OUTCOME_UNKNOWN


OF_KIND: dict[Kind, type[RefusedError]] = {c.kind: c for c in RefusedError.__subclasses__() if c.kind is not None}
