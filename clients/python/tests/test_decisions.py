"""What is decided without any server: what an answer means, when a call is made again, and how events are read."""

from __future__ import annotations

import inspect
import random
from collections.abc import AsyncGenerator, Generator
from typing import Any, get_type_hints

import httpx
import pytest

import drainmark
from drainmark import Kind
from drainmark._call import Answer, Call, Settings, do, segment
from drainmark._events import Event, EventReader, EventTooLong
from drainmark._retry import Pace
from drainmark._steps import Close, Course, Give, Open, Read, Sleep, Token
from drainmark._tail import Tail


def problem(kind: str, **more: str) -> bytes:
    return httpx.Response(200, json={"type": f"urn:drainmark:problem:{kind}", "title": "t", "detail": "d", **more}).content


@pytest.mark.parametrize(
    ("status", "body", "kind", "nothing_done", "retryable"),
    [
        (503, problem("unavailable"), Kind.UNAVAILABLE, True, True),
        (503, problem("backlog-full"), Kind.BACKLOG_FULL, True, True),
        (503, problem("disk-full"), Kind.DISK_FULL, True, True),
        (503, problem("too-many"), Kind.TOO_MANY, True, True),
        (503, b"somebody's", None, False, True),
        (502, b"a proxy's", None, False, True),
        (504, problem("outcome-unknown", receipt="R"), Kind.OUTCOME_UNKNOWN, False, True),
        (504, b"", None, False, True),
        (500, problem("internal"), Kind.INTERNAL, False, True),
        (500, problem("misconfigured"), Kind.MISCONFIGURED, False, False),
        (501, b"", None, False, False),
        (408, problem("unavailable"), Kind.UNAVAILABLE, True, True),
        (408, b"a proxy's", None, False, True),
        (429, problem("rate-limited"), Kind.RATE_LIMITED, True, True),
        (429, b"a proxy's", None, True, True),
        (499, b"", None, False, False),
        (412, problem("not-reached"), Kind.NOT_REACHED, True, False),
        (404, problem("not-found"), Kind.NOT_FOUND, True, False),
        (404, b'{"type": "urn:somebody:not-found"}', None, True, False),
        (400, problem("not-known-yet"), None, True, False),
        (400, b'["no object"]', None, True, False),
    ],
)
def test_what_a_refusal_means(status: int, body: bytes, kind: Kind | None, nothing_done: bool, retryable: bool) -> None:
    error = Call("POST", "/v1/x?y").refused(Answer(status, httpx.Headers({"Retry-After": "7"}), body))
    assert isinstance(error, drainmark.RefusedError)
    assert (error.kind, error.nothing_done, error.retryable) == (kind, nothing_done, retryable)
    assert (error.status, error.path, error.retry_after) == (status, "/v1/x", 7)
    assert error.receipt == ("R" if kind is Kind.OUTCOME_UNKNOWN else None)


def test_each_kind_has_a_class_of_its_own() -> None:
    classes = {c.kind: c for c in drainmark.RefusedError.__subclasses__()}
    assert set(classes) == set(Kind)
    assert all(getattr(drainmark, c.__name__) is c for c in classes.values())


def answers(*responses: httpx.Response | Exception) -> Any:
    """Performs steps with canned answers, and returns what a call's steps make of them, and what was done."""
    left = list(responses)
    done: list[Any] = []

    def perform(settings: Settings, call: Call) -> tuple[Any, list[Any]]:
        course = Course(do(settings, call))
        while (step := course.step) is not None:
            done.append(step)
            if isinstance(step, Open):
                response = left.pop(0)
                if isinstance(response, Exception):
                    course.failed(response)
                else:
                    parts = iter([response.content] if response.content else [])
                    course.went(response)
            elif isinstance(step, Read):
                course.went(next(parts, b""))
            elif isinstance(step, Token):
                course.went("token-2" if step.refused else "token-1")
            else:
                course.went(None)
        return course.result, done

    return perform, done


LOST = httpx.RemoteProtocolError("no answer")
UNREACHED = httpx.ConnectError("nobody listens")
BUSY = httpx.Response(503, content=problem("too-many"), headers={"Retry-After": "9"})
OK = httpx.Response(200, content=b"{}")


@pytest.mark.parametrize(
    ("repeatable", "responses", "attempts", "nothing_done"),
    [
        (True, [LOST, BUSY, UNREACHED, OK], 4, None),
        (False, [UNREACHED, BUSY, OK], 3, None),
        (False, [UNREACHED, LOST, OK], 2, False),
        (True, [LOST, httpx.Response(404, content=b"")], 2, False),
        (False, [UNREACHED, httpx.Response(404, content=b"")], 2, True),
        (True, [httpx.Response(302, headers={"Location": "http://other"})], 1, False),
    ],
)
def test_when_a_call_is_made_again(repeatable: bool, responses: list[Any], attempts: int, nothing_done: bool | None) -> None:
    perform, done = answers(*responses)
    call = Call("DELETE", "/v1/x", repeatable=repeatable)
    settings = Settings("http://h", retry=drainmark.Retry(attempts=9, elapsed=None))
    if nothing_done is None:
        perform(settings, call)
    else:
        with pytest.raises(drainmark.Error) as caught:
            perform(settings, call)
        assert (caught.value.attempts, caught.value.nothing_done) == (attempts, nothing_done)
    opened = [step for step in done if isinstance(step, Open)]
    assert len(opened) == attempts
    assert all((o.method, o.url, o.headers, o.body) == ("DELETE", "http://h/v1/x", opened[0].headers, b"") for o in opened)


def test_a_retry_waits_for_as_long_as_the_server_says_and_not_beyond_its_own_time() -> None:
    perform, done = answers(BUSY, OK)
    perform(Settings("http://h", retry=drainmark.Retry()), Call("GET", "/v1"))
    assert [step.seconds >= 9 for step in done if isinstance(step, Sleep)] == [True]
    perform, done = answers(BUSY, OK)
    with pytest.raises(drainmark.TooManyError):
        perform(Settings("http://h", retry=drainmark.Retry(elapsed=5)), Call("GET", "/v1"))
    assert not any(isinstance(step, Sleep) for step in done)


def test_pauses_grow_to_the_longest_and_begin_again() -> None:
    random.seed(1)
    pace = Pace(drainmark.Retry(least=1, most=4))
    for least in (0.5, 1, 2, 2, 2):
        assert least <= pace.next() <= 2 * least
    assert 7 <= pace.next(7) <= 9
    pace.reset()
    assert pace.next() <= 1


def test_a_refused_token_is_replaced_once_and_is_no_retry() -> None:
    refused = httpx.Response(401, content=problem("unauthenticated"))
    perform, done = answers(refused, OK)
    settings = Settings("http://h", token=True)
    perform(settings, Call("DELETE", "/v1/x"))
    shown = [dict(step.headers)["Authorization"] for step in done if isinstance(step, Open)]
    assert shown == ["Bearer token-1", "Bearer token-2"]
    perform, done = answers(refused, refused)
    with pytest.raises(drainmark.UnauthenticatedError) as caught:
        perform(settings, Call("DELETE", "/v1/x"))
    assert caught.value.attempts == 1
    assert sum(isinstance(step, Close) for step in done) == 2


def test_a_url_with_a_password_is_basic_authentication_and_is_never_shown() -> None:
    perform, done = answers(LOST)
    with pytest.raises(drainmark.TransportError) as caught:
        perform(Settings("https://ann:s%20e@h:1/prefix/"), Call("GET", "/v1?a=b"))
    assert (done[0].url, dict(done[0].headers)["Authorization"]) == ("https://h:1/prefix/v1?a=b", "Basic YW5uOnMgZQ==")
    assert str(caught.value) == "GET /v1: no answer"


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://h", "http://", "http://secret@h?a=b", "http://secret@h#f", "http://h?"]
)
def test_a_url_that_cannot_be_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="the URL must") as caught:
        drainmark.Client(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"elapsed": -1}, {"least": 0}, {"least": 3, "most": 2}])
def test_a_retry_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        drainmark.Retry(**wrong)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_cannot_be_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        drainmark.Client("http://h", timeout=timeout)


def test_names_stay_within_their_part_of_a_path() -> None:
    assert [segment(s) for s in ("a.b", "a/b", ".", "..")] == ["a.b", "a%2Fb", "%2E", "%2E%2E"]
    assert segment("a?b#c%ü") == "a%3Fb%23c%25%C3%BC"
    url = httpx.URL("http://h/v1/logs/" + segment("..") + "/messages")
    assert url.raw_path == b"/v1/logs/%2E%2E/messages"


STREAM = (
    b'\xef\xbb\xbfretry: 2500\r\nid: 0\r\n\r\n: comment\n\nid: 1\nevent: message\ndata: {"a":\ndata:1}\n\n'
    b"event: other\ndata: x\n\nid: 3\n\ndata: cut off"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_however_they_are_cut(size: int) -> None:
    reader = EventReader(1000)
    events = [e for at in range(0, len(STREAM), size) for e in reader.feed(STREAM[at : at + size])]
    assert events == [Event("message", "1", b'{"a":\n1}'), Event("other", "", b"x")]
    assert reader.retry == 2.5


def test_an_event_has_a_limit() -> None:
    reader = EventReader(100)
    reader.feed(b"data: " + b"x" * 90)
    with pytest.raises(EventTooLong, match="100 bytes"):
        reader.feed(b"x" * 20)
    reader = EventReader(100)
    with pytest.raises(EventTooLong, match="100 bytes"):
        for _ in range(20):
            reader.feed(b"data: 0123456789\n")


def event(position: int, name: str = "message") -> bytes:
    return (
        f'id: {position}\nevent: {name}\ndata: {{"position":{position},"id":"i","body":"b","content_type":"c",'
        '"accepted_at":"2026-03-01T10:00:00.000000Z","persisted_at":"2026-03-01T10:00:00.004000Z"}\n\n'
    ).encode()


def page(last: int, count: int) -> bytes:
    return f'{{"log":"log","messages":[],"last_position":{last},"count":{count},"first_position":1}}'.encode()


def follow(events: list[bytes], answer: bytes, timeout: float | None) -> tuple[list[int], type | None]:
    """Performs the steps of a tail until its first stream is over. It returns the positions that it gave, and its error."""
    stream = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=b"".join(events))
    course = Course(Tail(Settings("http://h"), "log", 0, timeout).steps())
    parts: dict[httpx.Response, list[bytes]] = {}
    taken: list[int] = []
    try:
        while not isinstance(course.step, Sleep):
            step = course.step
            if isinstance(step, Open):
                response = stream if step.url.endswith("/events") else httpx.Response(200, content=answer)
                parts[response] = [b"", response.content]
                course.went(response)
            elif isinstance(step, Read):
                course.went(parts[step.answer].pop())
            else:
                taken += [step.item.position] if isinstance(step, Give) else []
                course.went(None)
    except drainmark.Error as error:
        return taken, type(error)
    return taken, None


@pytest.mark.parametrize(
    ("events", "answer", "given", "error"),
    [
        ([1, 2, 4], page(4, 4), [1, 2], drainmark.PositionsError),  # 3 was not cleared
        ([1, 2, 4], page(4, 1), [1, 2, 4], None),  # 3 was cleared
        ([1, 2, 2], b"", [1, 2], drainmark.PositionsError),
        ([1, 2, 4], page(3, 3), [1, 2], None),  # an older replica: the stream is opened again
    ],
)
def test_what_a_tail_makes_of_positions_that_are_left_out(
    events: list[int], answer: bytes, given: list[int], error: type[Exception] | None
) -> None:
    assert follow([event(position) for position in events], answer, None) == (given, error)


def test_a_tail_passes_over_events_of_other_names_but_not_their_place() -> None:
    assert follow([event(1), event(2, "other"), event(3)], b"", None) == ([1, 3], None)


def test_a_tail_ends_after_its_time_although_messages_come() -> None:
    assert follow([event(1), event(2)], b"", 0) == ([1, 2], drainmark.TimedOut)


def test_a_state_of_a_newer_server_is_pending() -> None:
    status = drainmark.Status.read({"receipt": "R", "state": "resting"}, None)
    assert (status.state, status.settled) == (drainmark.State.PENDING, False)


def public(of: type) -> dict[str, Any]:
    return {name: method for name, method in vars(of).items() if inspect.isfunction(method) and not name.startswith("_")}


def test_both_clients_have_the_same_methods() -> None:
    blocking, waiting = public(drainmark.Client), public(drainmark.AsyncClient)
    waiting["close"] = waiting.pop("aclose")
    assert set(blocking) == set(waiting)
    for name, method in blocking.items():
        ours, theirs = get_type_hints(method), get_type_hints(waiting[name])
        returned, awaited = ours.pop("return"), theirs.pop("return")
        assert ours == theirs, name
        if getattr(returned, "__origin__", None) is Generator:
            assert (awaited.__origin__, awaited.__args__[0]) == (AsyncGenerator, returned.__args__[0]), name
        else:
            assert returned == awaited, name
            assert inspect.iscoroutinefunction(waiting[name]), name
