"""Server-sent events, as far as the API has them."""

from __future__ import annotations

from dataclasses import dataclass


class EventTooLong(ValueError):
    """An event has more bytes than the limit."""


@dataclass(frozen=True)
class Event:
    """An event that has data."""

    name: str
    id: str
    data: bytes


class EventReader:
    """Makes events of the bytes of a stream. Lines may end with LF or with CR LF. An event that the end of the stream
    has cut off is none."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.retry: float | None = None
        """The stream's last word on how many seconds to wait before it is opened again."""
        self._begun = False
        self._rest: list[bytes] = []  # of a line that has no end yet
        self._size = 0  # of the event that has no end yet
        self._name, self._id = "message", ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Returns the events that the chunk completes."""
        events = []
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join([*self._rest, end])
            self._rest = []
            self._grow(end)
            if event := self._line(line.removesuffix(b"\r")):
                events.append(event)
        self._rest.append(rest)
        self._grow(rest)
        return events

    def _grow(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self.limit:
            raise EventTooLong(f"an event of more than {self.limit} bytes, the limit")

    def _line(self, line: bytes) -> Event | None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            return self._end()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode(errors="replace")
        elif field == b"id":
            self._id = value.decode(errors="replace")
        elif field == b"retry" and value.isdigit() and len(value) <= 5:  # up to a minute or so
            self.retry = int(value) / 1000
        return None

    def _end(self) -> Event | None:
        event = Event(self._name, self._id, b"\n".join(self._data)) if self._data else None
        self._name, self._id, self._data, self._size = "message", "", [], 0
        return event
