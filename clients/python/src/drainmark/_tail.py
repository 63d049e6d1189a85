"""Following a log."""

from __future__ import annotations

import json

import httpx

from ._call import MAX_REFUSAL, Answer, Call, Settings, closing, observing, open_answer, read_part
from ._errors import Error, NotFoundError, ProtocolError, TimedOut, TransportError
from ._events import Event, EventReader, EventTooLong
from ._model import Message
from ._operations import Deadline, log_path, page, positions_error
from ._retry import Pace
from ._steps import Give, Sleep, Steps


class Tail:
    """A log that is followed. Each message is given once and in order, over any number of event streams."""

    def __init__(self, settings: Settings, log: str, after: int, timeout: float | None) -> None:
        self._settings, self._log = settings, log
        self._last = int(after)  # the position behind which the next stream goes on
        self._pace = Pace(settings.retry)
        self._deadline = Deadline(timeout)

    def steps(self) -> Steps[None]:
        while True:
            before, retry_after = self._last, 0.0
            try:
                yield from self._stream()
            except Error as error:
                if not error.retryable:
                    raise
                if self._deadline.over:
                    raise self._timed_out() from error
                retry_after = error.retry_after
            if self._last > before:
                self._pace.reset()
            yield from Sleep(self._deadline.at_most(self._pace.next(retry_after)))
            if self._deadline.over:
                raise self._timed_out()

    def _timed_out(self) -> Error:
        reason = f"behind position {self._last} after {self._deadline.timeout:g} s, the limit"
        return TimedOut(reason, method="following", path=log_path(self._log))

    def _stream(self) -> Steps[None]:
        """Opens one event stream and gives its messages until it ends."""
        call = Call("GET", log_path(self._log) + "/events", repeatable=True)
        call.headers += [("Accept", "text/event-stream"), ("Last-Event-ID", str(self._last))]
        silence = max(self._deadline.at_most(self._settings.silence), 0.001)
        with observing(self._settings, call) as seen:
            opened = yield from open_answer(self._settings, call, silence)
            seen.status = opened.status_code
            is_stream = opened.headers.get("Content-Type", "").startswith("text/event-stream")
            take = self._events if opened.status_code == 200 and is_stream else self._refusal
            yield from closing(opened, take(call, opened))

    def _refusal(self, call: Call, opened: httpx.Response) -> Steps[None]:
        """Raises the error of an answer that is not an event stream."""
        body = bytearray()
        while opened.status_code >= 400 and len(body) < MAX_REFUSAL and (part := (yield from read_part(call, opened))):
            body += part
        answer = Answer(opened.status_code, opened.headers, bytes(body))
        if answer.status >= 400:
            raise call.refused(answer)
        raise call.misunderstood(answer, f"not an event stream, but {opened.headers.get('Content-Type', '')[:80]!r}")

    def _events(self, call: Call, opened: httpx.Response) -> Steps[None]:
        """Gives the messages of a stream, and returns at its end, which is as good as a broken connection."""
        reader = EventReader(self._settings.limit)
        while part := (yield from read_part(call, opened)):
            try:
                events = reader.feed(part)
            except EventTooLong as error:
                raise self._misunderstood(call, str(error)) from error
            if reader.retry is not None:
                self._pace.most = max(reader.retry, self._pace.least)
            for event in events:
                yield from self._event(call, event)
            if self._deadline.over:
                raise self._timed_out()

    def _event(self, call: Call, event: Event) -> Steps[None]:
        if event.name != "message":  # of a newer server: it is passed over, but not its place
            if event.id.isascii() and event.id.isdigit():
                self._last = max(self._last, int(event.id))
            return
        try:
            message = Message.read(json.loads(event.data))
            if event.id and event.id != str(message.position):
                raise ValueError(f"its id is not its position, {message.position}")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"the event {event.id[:20]!r} has {len(event.data)} bytes: {error!r:.100}"
            raise self._misunderstood(call, reason) from error
        if message.position != self._last + 1:
            yield from self._check_skip(message.position)
        self._last = message.position
        yield from Give(message)

    def _misunderstood(self, call: Call, reason: str) -> Error:
        error = ProtocolError(reason, method=call.method, path=call.shown)
        error.attempts = 1
        return error

    def _check_skip(self, position: int) -> Steps[None]:
        """Whether the messages between the last one and a position were cleared. A state that has the message at the
        position has also what was cleared before it. One that is older says nothing: then the stream is ended, and the
        next one brings the message again."""
        if position <= self._last:
            raise positions_error(self._log, f"the log goes on from {self._last} with {position}")
        try:
            part = yield from page(self._settings, self._log, position - 1, 1, None, 0)
        except NotFoundError as error:
            raise self._stale() from error
        if part.last_position < position:
            raise self._stale()
        if part.cleared < position - 1:
            reason = f"the log goes on from {self._last} with {position}, and was cleared through {part.cleared}"
            raise positions_error(self._log, reason)

    def _stale(self) -> Error:
        error = TransportError("the page is from an older state than the event", method="following", path=log_path(self._log))
        error.attempts, error.retryable = 1, True
        return error
