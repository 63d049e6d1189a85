"""What goes in and what comes out: messages, receipts' states, the backlog, dead letters.

The functions that read JSON raise KeyError, TypeError or ValueError on what is not the API's. Members that they do not
know are passed over.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from ._errors import Error

T = TypeVar("T")
JSON = Mapping[str, Any]

TEXT_TYPE = "text/plain; charset=utf-8"
BYTES_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class NewMessage:
    """A message that is to be appended, as one of many."""

    body: bytes | str
    content_type: str | None = None
    """By default text/plain; charset=utf-8 for a str, application/octet-stream for bytes."""
    key: str | None = None
    """Makes appending the same message again harmless for at least 24 hours, through any backend: 1 to 255 characters of
    printable ASCII, known to its log. None for one that the client makes."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Stand beside the body: 16 at most, and 4 KiB of names and values. Names are those of HTTP headers, and read in
    lower case. Values are any text without control characters."""

    def data(self) -> bytes:
        """The body's bytes. A UnicodeEncodeError says that it is no text."""
        return self.body.encode() if isinstance(self.body, str) else self.body

    def type(self) -> str:
        if self.content_type:
            return self.content_type
        return TEXT_TYPE if isinstance(self.body, str) else BYTES_TYPE


@dataclass(frozen=True)
class Message:
    """A message that was read."""

    position: int
    """1, 2, 3, … in its log: without gaps, never reused, never moved."""
    id: str
    """Names it in the deployment."""
    body: bytes
    content_type: str
    headers: Mapping[str, str]
    accepted_at: datetime
    persisted_at: datetime
    erased: bool = False
    """What it held is gone: body, content type and headers."""

    @property
    def text(self) -> str:
        """The body as text. A UnicodeDecodeError says that it is none."""
        return self.body.decode()

    @classmethod
    def read(cls, data: JSON) -> Message:
        return cls(
            _number(data, "position"), _text(data, "id"), _needed(_body(data)), _text(data, "content_type"), _headers(data),
            _time(data["accepted_at"]), _time(data["persisted_at"]), data.get("erased") is True,
        )  # fmt: skip


@dataclass(frozen=True)
class Page:
    """A part of a log."""

    messages: list[Message]
    last_position: int
    """Of the newest message that there ever was."""
    count: int
    """How many messages the log has now: the newest ones."""
    first_position: int
    """Of the oldest message that there is, or of the next one if there is none."""
    etag: str
    """For if_none_match."""
    not_modified: bool = False
    """It is the page that if_none_match names: then only etag and backend are set besides."""
    backend: str | None = None
    """The run of a backend that has answered."""

    @property
    def cleared(self) -> int:
        """The position up to which the log was cleared."""
        return self.last_position - self.count


@dataclass(frozen=True)
class LogInfo:
    """What a log has."""

    name: str
    last_position: int
    count: int
    first_position: int

    @classmethod
    def read(cls, data: JSON) -> LogInfo:
        return cls(_text(data, "name"), *(_number(data, n) for n in ("last_position", "count", "first_position")))


def merge(*receipts: str | None) -> str:
    """Makes one receipt of several, which stands for all their writes. It can be used wherever a receipt can. The API
    takes up to 1,000 at once. Client.status answers with a shorter one for the same writes. None and empty ones stand
    for nothing."""
    return ",".join(receipt for receipt in receipts if receipt)


class State(str, Enum):
    """Where writes, or a barrier, stand. A receipt is pending, persisted, rejected or stalled, a barrier pending, reached
    or stalled. What a newer server says besides is PENDING."""

    ACCEPTED = "accepted"
    """On the durable queue, and nothing else was asked."""
    PENDING = "pending"
    """Not persisted yet, or not visible yet to the backend that has answered."""
    PERSISTED = "persisted"
    """Every write is in the database, and the backend that has answered shows it."""
    REJECTED = "rejected"
    """Some can never be persisted, or a retry was refused again. The rest is persisted."""
    STALLED = "stalled"
    """Pending, and nothing moves."""
    REACHED = "reached"
    """Everything accepted before the barrier is persisted, except for what is set aside."""

    @classmethod
    def _missing_(cls, value: object) -> State | None:
        return cls.PENDING if isinstance(value, str) else None


class Placed(NamedTuple):
    """Where a message stands."""

    log: str
    position: int
    id: str


@dataclass(frozen=True)
class RejectedRecords:
    """Which of a receipt's records can never be persisted."""

    count: int
    """How many, at least so many unless it is exact."""
    exact: bool
    dead_letters: list[str]
    """Ids of their dead letters, 100 at most."""
    reasons: list[str]
    """Why each of these was set aside."""

    @classmethod
    def read(cls, data: JSON) -> RejectedRecords:
        return cls(_number(data, "count"), bool(data["exact"]), list(data["dead_letters"]), list(data["reasons"]))


@dataclass(frozen=True)
class Status:
    """What is known of writes, or of a barrier."""

    receipt: str
    """To ask again with. A barrier's may change."""
    state: State
    reason: str | None = None
    """Why it is rejected or stalled, or what is set aside, in words for people."""
    count: int = 0
    """How many records it stands for. 0 if the answer does not say, as a barrier's."""
    id: str | None = None
    """Of the one message of an append, unless it had been accepted before, with the same key."""
    marks: list[str] = field(default_factory=list)
    """The records' marks as runs, such as 2-1af6…-7..9. Empty for an append of one message, and for a barrier."""
    messages: list[Placed] = field(default_factory=list)
    """Where the messages stand, if a log was named, and they are found."""
    rejected: RejectedRecords | None = None
    missing: int = 0
    """How many accepted records the broker did not deliver, if that alone keeps a barrier from being reached."""
    set_aside: int | None = None
    """How many records of a barrier's partitions are dead letters that nobody has discarded. None if not known."""
    backend: str | None = None
    """The run of a backend that has answered."""

    @property
    def settled(self) -> bool:
        """Whether asking again cannot bring anything new."""
        return self.state in (State.PERSISTED, State.REJECTED, State.REACHED)

    def ids(self) -> Iterator[str]:
        """What the records are called, in the order in which they were appended. A message that had been accepted before,
        with the same key, has its first id in the log."""
        if self.id is not None:
            yield self.id
            return
        for run in self.marks:
            producer, _, numbers = run.rpartition("-")
            first, _, last = numbers.partition("..")
            for number in range(int(first), int(last or first) + 1):
                yield f"{producer}-{number}"

    @classmethod
    def read(cls, data: JSON, backend: str | None) -> Status:
        rejected = data.get("rejected")
        return cls(
            _text(data, "receipt"), State(data["state"]), data.get("reason"), data.get("count", 0), data.get("id"),
            list(data.get("marks", ())),
            [Placed(_text(m, "log"), _number(m, "position"), _text(m, "id")) for m in data.get("messages", ())],
            None if rejected is None else RejectedRecords.read(rejected),
            data.get("missing", 0), data.get("set_aside"), backend,
        )  # fmt: skip


@dataclass(frozen=True)
class Count:
    """A number of records. If it is not exact it is a lower bound, and proves nothing when it is 0."""

    records: int
    exact: bool

    @classmethod
    def read(cls, data: JSON) -> Count:
        return cls(_number(data, "records"), bool(data["exact"]))


@dataclass(frozen=True)
class MissingRecords:
    """Records in a row."""

    producer: str
    first: int
    last: int


@dataclass(frozen=True)
class Partition:
    """The backlog of one partition."""

    partition: int
    pending: Count
    ready: Count | None
    in_flight: Count | None
    oldest_pending_seconds: float | None
    owner: str | None
    """The consumer that holds it, None if none does, empty for those who may not know which."""
    epoch: str
    revision: int
    cursor: str
    producers: int
    persisted: int
    missing: list[MissingRecords]
    """What the broker did not deliver although it delivered later records."""
    stalled: str | None
    """Why nothing moves, None if it does."""

    @classmethod
    def read(cls, data: JSON) -> Partition:
        missing = [MissingRecords(m["producer"], m["first"], m["last"]) for m in data["missing"]]
        return cls(
            _number(data, "partition"), Count.read(data["pending"]), _optional(Count.read, data["ready"]),
            _optional(Count.read, data["in_flight"]), data["oldest_pending_seconds"], data["owner"], data["epoch"],
            data["revision"], data["cursor"], data["producers"], data["persisted"], missing, data["stalled"],
        )  # fmt: skip


@dataclass(frozen=True)
class Backlog:
    """What is accepted and not yet persisted, of all partitions, and of each."""

    pending: Count
    ready: Count | None
    """Not yet delivered to a consumer. None where the broker cannot say, as in_flight."""
    in_flight: Count | None
    oldest_pending_seconds: float | None
    """For how long something has been pending. None if nothing is, or it is unknown."""
    backend: str
    """The run of a backend that has answered: a lower bound is its own."""
    partitions: list[Partition]

    @classmethod
    def read(cls, data: JSON) -> Backlog:
        partitions = [Partition.read(p) for p in data["partitions"]]
        if not partitions:
            raise ValueError("a backlog without partitions")
        return cls(
            Count.read(data["pending"]), _optional(Count.read, data["ready"]), _optional(Count.read, data["in_flight"]),
            data["oldest_pending_seconds"], _text(data, "backend"), partitions,
        )  # fmt: skip


class Works(NamedTuple):
    """Whether something would work now. None if that is not known, which only persisting can be."""

    working: bool | None
    reason: str | None
    """Why not, or why it is not known."""


@dataclass(frozen=True)
class Working:
    """What would work now, through the backend that has answered."""

    appends: Works
    reads: Works
    persisting: Works
    """Whether what is accepted gets persisted, as far as that backend knows."""
    backend: str | None = None

    @classmethod
    def read(cls, data: JSON, backend: str | None) -> Working:
        appends, reads, persisting = (Works(data[n]["working"], data[n]["reason"]) for n in ("appends", "reads", "persisting"))
        return cls(appends, reads, persisting, backend)


@dataclass(frozen=True)
class Wanted:
    """How many consumers are wanted now."""

    consumers: int
    """0 only if everything that had been accepted before the question is persisted."""
    known: bool
    """False if a consumer is wanted only because something is not known."""
    reason: str
    pending: Count
    backend: str

    @classmethod
    def read(cls, data: JSON) -> Wanted:
        return cls(
            _number(data, "wanted"), bool(data["known"]), data["reason"], Count.read(data["pending"]), _text(data, "backend")
        )


@dataclass(frozen=True)
class DeadLetter:
    """A record that could not be persisted and was set aside. What is not known is None."""

    id: str
    partition: int
    log: str
    """Empty if it could not be read."""
    reason: str
    set_aside_at: datetime | None
    attempts: int
    """How often it was tried."""
    producer: str | None
    first: int | None
    """It stands for the records first to last: one, unless they are missing, or undecoded."""
    last: int | None
    undecoded: bool
    """The broker's message could not be read. Then body is the whole of it."""
    body: bytes | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted_at: datetime | None = None
    key: str | None = None
    principal: str | None = None
    """Who sent it."""

    @classmethod
    def read(cls, data: JSON) -> DeadLetter:
        return cls(
            _text(data, "id"), _number(data, "partition"), data["log"], data["reason"], _optional(_time, data["set_aside_at"]),
            _number(data, "attempts"), data["producer"], data["first"], data["last"], bool(data["undecoded"]), _body(data),
            data.get("content_type"), _headers(data), _optional(_time, data.get("accepted_at")), data.get("key"),
            data.get("principal"),
        )  # fmt: skip


@dataclass(frozen=True)
class Settled:
    """How many dead letters were retried, discarded or counted."""

    dead_letters: int = 0
    records: int = 0
    """How many records they stand for."""
    refused: int = 0
    """How many retries were refused again, as far as that was known within the wait. Their dead letters stay."""

    @classmethod
    def read(cls, data: JSON) -> Settled:
        refused = _number(data["rejected"], "count") if "rejected" in data else 0
        return cls(_number(data, "dead_letters"), _number(data, "records"), refused)

    def __add__(self, more: Settled) -> Settled:
        return Settled(self.dead_letters + more.dead_letters, self.records + more.records, self.refused + more.refused)


@dataclass(frozen=True)
class Attempt:
    """One request that was made, or two if the first one's token was refused."""

    method: str
    path: str
    """Escaped, without the prefix and the query."""
    seconds: float
    """How long it took. Of an event stream, how long it lasted."""
    status: int | None
    """None if there was no answer."""
    error: Error | None
    """None if it succeeded. Of an event stream, why it ended."""


def _text(data: JSON, name: str) -> str:
    value = data[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def _number(data: JSON, name: str) -> int:
    value = data[name]
    if type(value) is not int or value < 0:
        raise TypeError(f"{name} is no number")
    return value


def _optional(read: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else read(value)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))  # before Python 3.11 it does not know Z


def _body(data: JSON) -> bytes | None:
    if "body" in data:
        return _text(data, "body").encode()
    if "body_base64" in data:
        return base64.b64decode(_text(data, "body_base64"), validate=True)
    return None


def _needed(body: bytes | None) -> bytes:
    if body is None:
        raise ValueError("a message without a body")
    return body


def _headers(data: JSON) -> Mapping[str, str]:
    return dict(data.get("headers") or {})
