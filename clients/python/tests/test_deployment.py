"""Each test is of both clients, on a real deployment."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import anyio
import httpx
import pytest

import drainmark
from conftest import Connect
from deployments import PATIENCE, Deployment, Proxy, free_port, until
from drainmark import Kind, NewMessage, State

UNUSUAL = [
    NewMessage("hello"),
    NewMessage(""),
    NewMessage(b""),
    NewMessage('grüße \u2028 <&> \U0001f600 "\\\n\r\t\x00\x1f', headers={"text": 'grüße \u2028 "\\', "b": "c"}),
    NewMessage(b"\xff\x00\xfe", content_type="image/png"),
    NewMessage('{"body":"x"}\n', content_type="application/x-ndjson"),
    NewMessage("a,b\n", content_type="application/jsonl; charset=utf-8"),
    NewMessage("[]", content_type="application/cloudevents-batch+json"),
    NewMessage("headed", headers={"tenant": '7, "8"', "empty": ""}),
    NewMessage("x" * 200_000),
]


def expected(message: NewMessage) -> tuple[bytes, str, dict[str, str]]:
    return message.data(), message.type(), dict(message.headers)


def bodies(client: drainmark.Client, log: str) -> list[str]:
    return [m.text for m in client.messages(log)]


def test_what_is_appended_is_read_whatever_it_is(client: drainmark.Client, log: str) -> None:
    receipts = []
    for m in UNUSUAL:
        one = client.append(log, m.body, content_type=m.content_type, headers=m.headers)
        assert one.state is State.ACCEPTED
        receipts.append(one.receipt)
    many = client.append_many(log, UNUSUAL, wait=PATIENCE)
    assert many.state is State.PERSISTED
    assert many.count == len(UNUSUAL)
    both = drainmark.merge(*receipts, None, many.receipt)
    read = list(client.messages(log, limit=2, receipts=both, wait=PATIENCE))
    assert [(m.body, m.content_type, m.headers) for m in read] == [expected(m) for m in UNUSUAL * 2]
    assert [m.position for m in read] == list(range(1, 2 * len(UNUSUAL) + 1))
    assert all(timedelta() <= m.persisted_at - m.accepted_at < timedelta(hours=1) for m in read)
    assert [m.id for m in read[len(UNUSUAL) :]] == list(many.ids())
    status = client.status(both, wait=PATIENCE)
    assert (status.state, list(status.ids())) == (State.PERSISTED, [m.id for m in read])


def test_a_thousand_messages_are_read_page_by_page(client: drainmark.Client, log: str) -> None:
    texts = [f"message {n}" for n in range(1000)]
    status = client.append_many(log, texts, wait=PATIENCE)
    assert len(list(status.ids())) == 1000
    pages = list(client.pages(log, limit=300, receipts=status.receipt, wait=PATIENCE))
    assert [len(p.messages) for p in pages] == [300, 300, 300, 100]
    assert [m.text for p in pages for m in p.messages] == texts
    assert [m.text for m in client.messages(log, after=998)] == texts[998:]
    assert list(client.messages(log, after=1000)) == []


def test_the_same_key_is_one_message(client: drainmark.Client, log: str) -> None:
    key = 'a key, "quoted" \\'
    first = client.append(log, "once", key=key)
    second = client.append_many(log, [NewMessage("once", key=key)])
    assert client.wait(drainmark.merge(first.receipt, second.receipt), timeout=PATIENCE).state is State.PERSISTED
    assert bodies(client, log) == ["once"]


def test_an_append_whose_answer_is_lost_is_sent_again_with_the_same_key(connect: Connect, proxy: Proxy, log: str) -> None:
    client = connect(proxy.url)
    proxy.lose(1)
    client.append(log, "single")
    proxy.lose(2)
    status = client.append_many(log, ["one", "two"], wait=PATIENCE)
    keys = proxy.keys()
    assert len(keys) == 5
    assert len(set(keys[:2])) == len(set(keys[2:])) == 1
    assert len(set(keys)) == 2
    assert proxy.cuts == 3
    assert status.state is State.PERSISTED
    assert bodies(client, log) == ["single", "one", "two"]


def test_without_retries_a_lost_answer_is_an_error_and_there_is_no_key(connect: Connect, proxy: Proxy, log: str) -> None:
    client = connect(proxy.url, retry=None)
    proxy.lose(1)
    with pytest.raises(drainmark.TransportError) as caught:
        client.append(log, "unknown")
    assert (caught.value.nothing_done, caught.value.retryable, caught.value.attempts) == (False, True, 1)
    assert proxy.keys() == []
    assert len(proxy.requests("POST")) == 1


@pytest.mark.parametrize("removal", ["clear", "trim", "erase", "delete"])
def test_what_removes_is_not_made_again_after_a_lost_answer(connect: Connect, proxy: Proxy, log: str, removal: str) -> None:
    client = connect(proxy.url)
    client.append(log, "removed", wait=PATIENCE)
    before = len(proxy.requests("DELETE") + proxy.requests("POST"))
    proxy.lose(1)
    with pytest.raises(drainmark.TransportError) as caught:
        getattr(client, removal)(log, *([1] if removal in ("trim", "erase") else []))
    assert (caught.value.nothing_done, caught.value.retryable, caught.value.attempts) == (False, True, 1)
    assert len(proxy.requests("DELETE") + proxy.requests("POST")) == before + 1


def test_a_read_is_made_again_after_a_lost_answer(connect: Connect, proxy: Proxy, log: str) -> None:
    client = connect(proxy.url)
    client.append(log, "read", wait=PATIENCE)
    proxy.lose(2)
    assert bodies(client, log) == ["read"]
    proxy.lose(1)
    assert client.wait_barrier(timeout=PATIENCE).state is State.REACHED
    assert proxy.cuts == 3


def test_where_nobody_listens_nothing_was_done_and_everything_is_tried_again(connect: Connect, log: str) -> None:
    client = connect(f"http://127.0.0.1:{free_port()}", retry=drainmark.Retry(attempts=3))
    for call in (lambda: client.clear(log), lambda: client.append(log, "never"), client.backlog):
        with pytest.raises(drainmark.TransportError) as caught:
            call()
        assert (caught.value.nothing_done, caught.value.retryable, caught.value.attempts) == (True, True, 3)
        assert "(attempt 3)" in str(caught.value)


def test_one_reads_ones_own_writes(connect: Connect, own: Callable[..., Deployment], log: str) -> None:
    deployment = own()
    client = connect(deployment.url)
    client.append(log, "seen", wait=PATIENCE)
    with deployment.paused():
        receipt = client.append(log, "mine").receipt
        with pytest.raises(drainmark.NotReachedError) as caught:
            client.page(log, receipts=receipt)
        assert caught.value.retry_after >= 1
        assert client.page(log).last_position == 1
        assert client.status(receipt).state is State.PENDING
        with pytest.raises(drainmark.TimedOut) as late:
            client.wait(receipt, timeout=0.3)
        assert isinstance(late.value, TimeoutError)
        assert late.value.outcome is not None
        assert late.value.outcome.state in (State.PENDING, State.STALLED)
        with pytest.raises(drainmark.TimedOut) as late:
            client.wait_barrier(log, timeout=0.3)
        assert late.value.outcome is not None
        assert late.value.outcome.state in (State.PENDING, State.STALLED)
        assert client.backlog().pending.records >= 1
    assert [m.text for m in client.page(log, receipts=receipt, wait=PATIENCE).messages] == ["seen", "mine"]
    assert client.barrier_again(late.value.outcome.receipt, wait=PATIENCE).state is State.REACHED
    where = client.status(receipt, log=log, wait=PATIENCE)
    assert [(p.log, p.position) for p in where.messages] == [(log, 2)]


def test_a_page_that_is_the_same_is_not_sent_again(client: drainmark.Client, log: str) -> None:
    client.append(log, "page", wait=PATIENCE)
    page = client.page(log)
    again = client.page(log, if_none_match=page.etag)
    assert (again.not_modified, again.etag, again.messages) == (True, page.etag, [])
    client.append(log, "more", wait=PATIENCE)
    assert len(client.page(log, if_none_match=page.etag).messages) == 2


def test_clear_trim_erase_and_delete(client: drainmark.Client, log: str) -> None:
    client.append_many(log, ["1", "2", "3", "4"], wait=PATIENCE)
    assert client.trim(log, 1, wait=PATIENCE).state is State.PERSISTED
    assert client.erase(log, 3, wait=PATIENCE).state is State.PERSISTED
    assert [(m.position, m.text, m.erased) for m in client.messages(log)] == [(2, "2", False), (3, "", True), (4, "4", False)]
    assert client.clear(log, wait=PATIENCE).state is State.PERSISTED
    assert list(client.messages(log)) == []
    assert (client.page(log).last_position, client.page(log).first_position) == (4, 5)
    client.append(log, "5", wait=PATIENCE)
    assert [(m.position, m.text) for m in client.messages(log)] == [(5, "5")]
    assert log in [info.name for info in client.logs()]
    assert client.delete(log, wait=PATIENCE).state is State.PERSISTED
    assert log not in [info.name for info in client.logs()]
    with pytest.raises(drainmark.NotFoundError) as caught:
        client.page(log)
    assert caught.value.nothing_done


def test_all_logs_are_listed_over_pages(client: drainmark.Client, log: str) -> None:
    names = [f"{log}-{n:03}" for n in range(120)]  # a page has 100
    receipts = [client.append(name, "x").receipt for name in names]
    client.wait(drainmark.merge(*receipts), timeout=PATIENCE)
    assert [info.name for info in client.logs() if info.name.startswith(log)] == names


def test_a_tail_gives_what_is_there_and_what_comes_over_a_clear(client: drainmark.Client, log: str) -> None:
    client.append_many(log, ["1", "2"], wait=PATIENCE)
    client.clear(log, wait=PATIENCE)
    client.append_many(log, ["3", "4"], wait=PATIENCE)
    positions = []
    for m in client.tail(log, timeout=PATIENCE):
        positions.append(m.position)
        if m.position == 4:
            client.append(log, "5")
        if m.position == 5:
            break
    assert positions in ([3, 4, 5], [1, 2, 3, 4, 5])


def test_a_tail_of_a_log_that_is_not_there_begins_with_its_first_message(client: drainmark.Client, log: str) -> None:
    tail = client.tail(log, timeout=PATIENCE)
    appended = threading.Timer(0.1, client.append, (log, "first"))
    appended.start()
    assert next(iter(tail)).text == "first"
    appended.join()


def test_a_tail_ends_after_its_time(client: drainmark.Client, log: str) -> None:
    client.append(log, "only", wait=PATIENCE)
    taken = []
    with pytest.raises(drainmark.TimedOut):
        for m in client.tail(log, timeout=0.5):
            taken.append(m.text)
    assert taken == ["only"]


def test_a_tail_survives_cut_connections_without_gap_or_double(
    connect: Connect, proxy: Proxy, shared: Deployment, log: str
) -> None:
    writer, reader = connect(shared.url), connect(proxy.url)
    positions: list[int] = []
    for m in reader.tail(log, after=writer.append(log, "0", wait=PATIENCE).count - 1, timeout=PATIENCE):
        positions.append(m.position)
        if m.position % 10 == 0:
            proxy.cut()
        if m.position % 5 == 0 or m.position == 1:
            writer.append_many(log, ["x"] * 5)
        if m.position >= 60:
            break
    assert positions == list(range(1, 61))
    assert proxy.cuts >= 5


def test_a_tail_survives_a_killed_server_without_gap_or_double(
    connect: Connect, own: Callable[..., Deployment], log: str
) -> None:
    deployment = own()
    reader, writer = connect(deployment.url), connect(deployment.url)
    attempts: list[drainmark.Attempt] = []
    follower = connect(deployment.url, observe=attempts.append)
    sent = [f"message {n}" for n in range(60)]
    writer.append_many(log, sent[:20], wait=PATIENCE)
    taken: list[str] = []
    for m in follower.tail(log, timeout=2 * PATIENCE):
        taken.append(m.text)
        if len(taken) in (20, 40):
            deployment.kill()
            deployment.start()
            writer.append_many(log, sent[len(taken) : len(taken) + 20])
        if len(taken) == 60:
            break
    assert taken == sent
    assert [m.text for m in reader.messages(log)] == sent
    streams = [a for a in attempts if a.path.endswith("/events") and a.status == 200]
    assert len(streams) >= 3


def test_a_key_that_was_used_for_something_else_is_rejected_with_its_reason(client: drainmark.Client, log: str) -> None:
    client.append(log, "first", key="k", wait=PATIENCE)
    with pytest.raises(drainmark.RejectedError) as caught:
        client.append_many(log, [NewMessage("good"), NewMessage("second", key="k", headers={"tenant": "7"})], wait=PATIENCE)
    outcome = caught.value.outcome
    assert (outcome.state, outcome.count, caught.value.nothing_done) == (State.REJECTED, 2, False)
    assert outcome.rejected is not None
    assert (outcome.rejected.count, outcome.rejected.exact) == (1, True)
    assert "1 of 2 messages are rejected: idempotency-key-reused" in str(caught.value)
    later = client.append(log, "third", key="k")
    status = client.wait(later.receipt, timeout=PATIENCE)
    assert (status.state, status.reason is not None and status.reason.startswith("idempotency-key-reused")) == (
        State.REJECTED, True,
    )  # fmt: skip
    assert (client.wait_barrier(log, timeout=PATIENCE).set_aside or 0) >= 2
    letters = list(client.dead_letters(log=log))
    assert [(letter.body, letter.key, letter.headers, letter.log) for letter in letters] == [
        (b"second", "k", {"tenant": "7"}, log), (b"third", "k", {}, log),
    ]  # fmt: skip
    assert letters[0].id == outcome.rejected.dead_letters[0]
    assert letters[0].set_aside_at is not None
    settles_letters(client, log, [letter.id for letter in letters])
    assert bodies(client, log) == ["first", "good"]


def settles_letters(client: drainmark.Client, log: str, ids: list[str]) -> None:
    """Retries and discards two dead letters, which are refused again."""
    soon = datetime.now(timezone.utc) + timedelta(hours=1)
    counted = client.count_dead_letters(log=log, reason="idempotency", before=soon)
    assert (counted.dead_letters, counted.records) == (2, 2)
    assert client.count_dead_letters(log=log, before=soon - timedelta(days=1)).dead_letters == 0
    retried = client.retry_dead_letter(ids[0], wait=PATIENCE)
    assert retried.state is State.REJECTED
    assert retried.rejected is not None
    assert retried.rejected.dead_letters == [ids[0]]
    told: list[drainmark.Settled] = []
    all_retried = client.retry_dead_letters(log=log, progress=told.append)
    assert (all_retried.dead_letters, all_retried.refused, told[-1]) == (2, 2, all_retried)
    assert client.discard_dead_letter(ids[0], wait=PATIENCE).state is State.PERSISTED
    with pytest.raises(drainmark.ConflictError):
        client.discard_dead_letter(ids[0])
    assert client.discard_dead_letters(log=log).dead_letters == 1
    assert list(client.dead_letters(log=log)) == []


def test_what_the_deployment_says_of_itself(client: drainmark.Client) -> None:
    client.wait_barrier(timeout=PATIENCE)
    backlog, working, wanted = client.backlog(), client.working(), client.consumers()
    assert [p.partition for p in backlog.partitions] == [0, 1, 2, 3]
    assert backlog.backend == working.backend == wanted.backend
    assert (working.appends.working, working.reads.working) == (True, True)
    assert wanted.known


def test_every_refusal_has_its_class(client: drainmark.Client, log: str) -> None:
    calls: list[tuple[Kind, Callable[[], object]]] = [
        (Kind.INVALID, lambda: client.append("LOG", "x")),
        (Kind.INVALID, lambda: client.page(log, limit=1_000_000)),
        (Kind.INVALID, lambda: client.append_many(log, [])),
        (Kind.INVALID, lambda: client.append(log, "half a pair: \ud800")),
        (Kind.INVALID, lambda: client.append_many(log, ["half a pair: \ud800"])),
        (Kind.INVALID, lambda: client.append(log, "x", key="grüße")),
        (Kind.INVALID, lambda: client.append(log, "x", wait=-1)),
        (Kind.INVALID, lambda: client.delete("..")),
        (Kind.INVALID_RECEIPT, lambda: client.wait("R1")),
        (Kind.NOT_FOUND, lambda: client.page("nobody-has-written-to-it")),
        (Kind.NOT_FOUND, lambda: client.retry_dead_letter("0-1-1")),
        (Kind.TOO_LARGE, lambda: client.append(log, b"x" * (256 * 1024 + 1))),
    ]
    for kind, call in calls:
        with pytest.raises(drainmark.RefusedError) as caught:
            call()
        assert caught.value.kind is kind, caught.value
        assert caught.value.nothing_done
        assert not caught.value.retryable
    with pytest.raises(drainmark.NotFoundError):
        client.page(log)


def test_the_kinds_are_those_of_the_api(shared: Deployment) -> None:
    document = httpx.get(f"{shared.url}/v1/openapi.json", trust_env=False).text
    named = {word.split('"')[0].split(")")[0] for word in document.split("urn:drainmark:problem:")[1:]}
    named = {kind for kind in named if kind and not kind.startswith(" ")}
    assert named == {kind.value for kind in Kind}


def access(deployment_dir: Path, *names: str, limits: str = "") -> tuple[Path, dict[str, str]]:
    """Writes a file of principals, and returns it with their tokens."""
    tokens = {name: f"dmk_{name}_{'x' * 40}" for name in names}
    lines = ["principals:"]
    for name, token in tokens.items():
        digest = hashlib.sha256(token.encode()).hexdigest()
        lines += [f"  - name: {name}", f"    tokens: [{{sha256: {digest}}}]"]
        lines.append(f'    grants: ["append:{name}.*", "read:{name}.*"]')
        if limits:
            lines.append(f"    limits: {limits}")
    path = deployment_dir / "access.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path, tokens


def test_a_token_is_shown_and_asked_for_again_when_it_is_refused(
    connect: Connect, own: Callable[..., Deployment], tmp_path: Path
) -> None:
    path, tokens = access(tmp_path, "shop")
    url = own("--access", str(path)).url
    assert connect(url, token=tokens["shop"]).append("shop.a", "x", wait=PATIENCE).state is State.PERSISTED
    asked: list[str] = []

    def token(refused: str) -> str:
        asked.append(refused)
        return tokens["shop"] if refused else "old"

    attempts: list[drainmark.Attempt] = []
    client = connect(url, token=token, observe=attempts.append)
    client.append("shop.a", "y", wait=PATIENCE)
    assert (asked, len(attempts)) == (["", "old"], 1)
    assert [m.text for m in client.messages("shop.a")] == ["x", "y"]
    assert next(iter(client.tail("shop.a", timeout=PATIENCE))).text == "x"
    for bad in ("bad", "bäd", None):
        with pytest.raises(drainmark.UnauthenticatedError) as caught:
            connect(url, token=bad).append("shop.a", "z")
        assert caught.value.nothing_done
        assert bad is None or bad not in str(caught.value)
    with pytest.raises(drainmark.ForbiddenError):
        connect(url, token=tokens["shop"]).page("other")


def test_a_token_in_a_file_may_be_replaced(connect: Connect, own: Callable[..., Deployment], tmp_path: Path) -> None:
    path, tokens = access(tmp_path, "shop")
    url = own("--access", str(path)).url
    file = tmp_path / "token"
    client = connect(url, token=drainmark.token_file(file))
    with pytest.raises(drainmark.UnauthenticatedError):
        client.append("shop.a", "no file")
    file.write_text("old\n")
    with pytest.raises(drainmark.UnauthenticatedError):
        client.append("shop.a", "an old token")
    file.write_text(f" {tokens['shop']}\n")
    client.append("shop.a", "a good token", wait=PATIENCE)
    assert [m.text for m in client.messages("shop.a")] == ["a good token"]


def test_a_call_over_a_limit_is_made_again_when_the_server_says(
    connect: Connect, own: Callable[..., Deployment], tmp_path: Path
) -> None:
    path, tokens = access(tmp_path, "shop", limits="{requests: 1}")
    attempts: list[drainmark.Attempt] = []
    client = connect(own("--access", str(path)).url, token=tokens["shop"], observe=attempts.append)
    client.append("shop.a", "1")
    client.append("shop.a", "2")
    assert [a.status for a in attempts] == [202, 429, 202]
    refused = attempts[1].error
    assert isinstance(refused, drainmark.RateLimitedError)
    assert refused.retry_after >= 1
    assert refused.nothing_done


def test_the_trace_context_travels_with_messages(connect: Connect, shared: Deployment, log: str) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    client = connect(shared.url, trace=lambda carrier: carrier.__setitem__("traceparent", parent))
    client.append(log, "traced", headers={"Tenant": "7"}, wait=PATIENCE)
    assert client.page(log).messages[0].headers == {"tenant": "7", "traceparent": parent}


def test_a_client_may_be_used_by_many_threads(connect: Connect, shared: Deployment, log: str) -> None:
    client = connect(shared.url)
    threads = [threading.Thread(target=client.append, args=(log, str(n)), kwargs={"wait": PATIENCE}) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(bodies(client, log), key=int) == [str(n) for n in range(20)]


def test_a_stream_that_is_left_early_is_closed(connect: Connect, proxy: Proxy, shared: Deployment, log: str) -> None:
    client = connect(proxy.url)
    client.append_many(log, ["1", "2"], wait=PATIENCE)
    metrics = f"http://127.0.0.1:{shared.admin}/metrics"

    def streams() -> str:
        text = httpx.get(metrics, trust_env=False).text
        return next(line for line in text.splitlines() if line.startswith("drainmark_http_event_subscribers"))

    tail = client.tail(log, timeout=PATIENCE)
    assert next(tail).text == "1"
    assert streams().endswith(" 1")
    tail.close()
    until("the stream is closed", lambda: streams().endswith(" 0"))


# A stream that is left early leaves generators of httpx's, of which trio says so when they are collected.
@pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected before it had been exhausted:ResourceWarning")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_client_works_in_any_event_loop_and_after_a_call_was_cancelled(
    shared: Deployment, log: str, backend: str
) -> None:
    async def main() -> list[str]:
        async with drainmark.AsyncClient(shared.url) as client:
            await client.append(log, "x", wait=PATIENCE)
            taken = []
            with anyio.move_on_after(0.3) as scope:
                async for m in client.tail(log):
                    taken.append(m.text)
            assert scope.cancelled_caught
            await client.append(log, "y", wait=PATIENCE)
            async with aclosing(client.tail(log, after=1, timeout=PATIENCE)) as tail:
                async for m in tail:
                    return [*taken, m.text]
        return []

    assert anyio.run(main, backend=backend) == ["x", "y"]
