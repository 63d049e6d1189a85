// What is sent again, and what is not.

import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import test from "node:test";
import { Client, type DrainmarkError } from "@drainmark/client";
import { collect, Deployment, freePort, startDeployment } from "./deployment.js";
import { problem, says, startWire } from "./wire.js";

const deployment = await startDeployment();
const wire = await startWire(deployment.url);
const wait = 30_000;

function begin(...fates: typeof wire.fates) {
  wire.fates = fates;
  wire.seen.length = 0;
}

const texts = async (log: string) => (await collect(deployment.client().all(log))).map((message) => message.text);

test("an append whose answer is lost is sent again with the same key, and is there once", async () => {
  const client = new Client({ url: wire.url });
  begin("lose-answer", "lose", problem(504, "outcome-unknown"), says(502, "<html>"), "pass");
  const { state } = await client.append("lost", "once", { wait });
  assert.equal(state, "persisted");
  begin("lose-answer");
  await client.append("lost", { body: "with a header", headers: { a: "b" } }, { wait });
  await client.append("lost", { body: "with a key", key: "mine" }, { wait });
  begin("lose-answer");
  await client.appendMany("lost", ["x", { body: "y", key: "y" }, "z"], { wait });
  assert.deepEqual(await texts("lost"), ["once", "with a header", "with a key", "x", "y", "z"]);
});

test("each attempt is the same request", async () => {
  const client = new Client({ url: wire.url });
  begin("lose-answer", "lose-answer", "pass");
  await client.append("same", "once");
  const keys = wire.seen.map(({ headers, body }) => `${headers["idempotency-key"]} ${body}`);
  assert.equal(keys.length, 3);
  assert.match(keys[0] ?? "", /^"[0-9a-f]{32}" once$/);
  assert.equal(new Set(keys).size, 1);
  begin("pass");
  await client.append("same", "twice");
  assert.notEqual(`"${wire.seen[0]?.headers["idempotency-key"]}"`, keys[0]?.split(" ")[0]);
});

test("without retries there is one request, without a key, and nobody knows", async () => {
  const client = new Client({ url: wire.url, retry: false });
  begin("lose-answer");
  const error = await client.append("single", "x").catch((error) => error as DrainmarkError);
  assert.ok("kind" in error);
  assert.deepEqual([error.kind, error.nothingDone, error.retryable, error.attempts], ["connection", false, true, 1]);
  assert.deepEqual([wire.seen.length, wire.seen[0]?.headers["idempotency-key"]], [1, undefined]);
});

test("a clear whose answer is lost is not sent again", async () => {
  const client = new Client({ url: wire.url });
  await client.append("clear", "before", { wait });
  for (const [what, call] of Object.entries({
    clear: () => client.clear("clear"),
    trim: () => client.trim("clear", 1),
    erase: () => client.erase("clear", 1),
    delete: () => client.delete("clear"),
    "retry a letter": () => client.retryDeadLetter("x"),
    "discard a letter": () => client.discardDeadLetter("x"),
    "retry letters": () => client.retryDeadLetters({ log: "clear" }),
    "discard letters": () => client.discardDeadLetters({ log: "clear" }),
  })) {
    begin("lose-answer");
    await assert.rejects(call, { kind: "connection", nothingDone: false, retryable: true, attempts: 1 }, what);
    assert.equal(wire.seen.length, 1, what);
    begin(says(502, "bad gateway"));
    await assert.rejects(call, { kind: "other", status: 502, nothingDone: false, attempts: 1 }, what);
    begin(says(503, "somebody else's"));
    await assert.rejects(call, { kind: "other", status: 503, nothingDone: false, attempts: 1 }, what);
  }
});

test("a clear that was certainly not done is sent again", async () => {
  const client = new Client({ url: wire.url });
  await client.appendMany("cleared", ["a", "b"], { wait });
  begin(problem(503, "backlog-full"), problem(429, "rate-limited"), problem(503, "unavailable"), "pass");
  assert.equal((await client.clear("cleared", { wait })).state, "persisted");
  assert.equal(wire.seen.length, 4);
  assert.deepEqual(await texts("cleared"), []);
  begin(problem(503, "backlog-full"), "lose-answer");
  await assert.rejects(client.clear("cleared"), { kind: "connection", nothingDone: false, attempts: 2 });
});

test("what will stay refused is not sent again", async () => {
  const client = new Client({ url: wire.url });
  for (const [status, kind] of [
    [400, "invalid"],
    [403, "forbidden"],
    [409, "conflict"],
    [500, "misconfigured"],
  ] as const) {
    begin(problem(status, kind));
    await assert.rejects(client.append("no", "x"), { kind, status, retryable: false, attempts: 1, nothingDone: status < 500 });
    assert.equal(wire.seen.length, 1);
  }
});

test("Retry-After is waited for", async () => {
  const client = new Client({ url: wire.url });
  begin(problem(503, "disk-full", { "Retry-After": "1" }), "pass");
  await client.append("patient", "x");
  const [first, second] = wire.seen;
  assert.ok(first && second && second.at - first.at >= 990, `it was waited for ${(second?.at ?? 0) - (first?.at ?? 0)} ms`);
  begin(problem(503, "disk-full", { "Retry-After": "3600" }));
  const error = { kind: "disk-full", retryAfter: 3_600_000, attempts: 1, nothingDone: true, retryable: true };
  await assert.rejects(client.append("patient", "x"), error, "it is longer than the call's patience");
});

test("attempts and time have an end", async () => {
  const client = new Client({ url: wire.url, retry: { attempts: 3, least: 1, most: 2 } });
  begin("lose", problem(503, "unavailable"), "lose", "lose");
  await assert.rejects(client.append("end", "x"), { kind: "connection", attempts: 3, nothingDone: false });
  assert.equal(wire.seen.length, 3);
  const short = new Client({ url: wire.url, retry: { elapsed: 2000, least: 1, most: 50 } });
  begin(...Array(10_000).fill("lose"));
  const error = await short.messages("end").catch((error) => error as DrainmarkError);
  assert.ok("attempts" in error && error.attempts > 1 && error.kind === "connection");
  for (const retry of [{ attempts: 0 }, { elapsed: -1 }, { least: 5, most: 2 }]) {
    assert.throws(() => new Client({ url: wire.url, retry }), TypeError);
  }
});

test("where nobody listens nothing was done, so everything is sent again", async () => {
  const later = new Deployment(await freePort(), await freePort(), "");
  try {
    await assert.rejects(later.client({ retry: false }).clear("x"), { kind: "connection", nothingDone: true, retryable: true });
    const appended = later.client().append("x", "hello", { wait });
    await later.start();
    assert.equal((await appended).state, "persisted");
    await later.kill();
    const cleared = later.client().clear("x", { wait });
    await later.start();
    assert.equal((await cleared).state, "persisted");
  } finally {
    await later.remove();
  }
});

test("a read whose answer breaks off is made again", async () => {
  const client = new Client({ url: wire.url });
  begin();
  await client.append("read", "x", { wait });
  const half = (answer: ServerResponse) => {
    answer.writeHead(200, { "Content-Length": "1000" });
    answer.write('{"log":', () => answer.destroy());
  };
  begin(half, "pass");
  assert.equal((await client.messages("read")).messages[0]?.text, "x");
  assert.equal(wire.seen.length, 2);
});
