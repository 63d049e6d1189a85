// Following a log while everything breaks.

import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import test from "node:test";
import { Client, type Message } from "@drainmark/client";
import { collect, startDeployment, take, until } from "./deployment.js";
import { problem, says, startWire } from "./wire.js";

const deployment = await startDeployment();
const client = deployment.client();
const wait = 30_000;

// follow gathers what a tail brings until it is stopped.
function follow(from: Client, log: string, after?: number) {
  const control = new AbortController();
  const got: Message[] = [];
  const done = (async () => {
    for await (const message of from.tail(log, { after, signal: control.signal })) got.push(message);
  })();
  const stop = () => {
    control.abort();
    return done;
  };
  return { got, stop, texts: () => got.map((message) => message.text), positions: () => got.map((message) => message.position) };
}

const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1);

test("what is there comes first, and then each message as it is persisted", async () => {
  await client.appendMany("live", ["1", "2"], { wait });
  const reader = follow(client, "live", 0);
  await until("what was there has come", () => reader.got.length === 2);
  await client.append("live", "3");
  await until("what is new has come", () => reader.got.length === 3);
  await reader.stop();
  assert.deepEqual(reader.texts(), ["1", "2", "3"]);
  assert.deepEqual(reader.got, (await client.messages("live")).messages);
});

test("without a position it begins with what is new, also over a broken connection", async () => {
  const wire = await startWire(deployment.url);
  await client.append("new", "old", { wait });
  const reader = follow(new Client({ url: wire.url }), "new");
  await until("the stream has begun", () => wire.seen.length > 0);
  let n = 0;
  while (reader.got.length === 0) await client.append("new", String(++n), { wait });
  wire.cut();
  await client.append("new", "last", { wait });
  await until("all has come", () => reader.texts().includes("last"));
  await reader.stop();
  const [first = 0] = reader.positions();
  assert.deepEqual(reader.positions(), upTo(n + 2).slice(first - 1));
  assert.ok(!reader.texts().includes("old"));
});

test("a server that is killed under a stream leaves no gap and no double", async () => {
  const reader = follow(client, "killed", 0);
  let written = 0;
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) await client.append("killed", String(++written));
    await until("something of the round has come", () => reader.got.length > written - 20);
    const more = Array.from({ length: 20 }, () => client.append("killed", String(++written)));
    await deployment.kill();
    await deployment.start();
    await Promise.all(more);
  }
  await until("all has come", () => reader.got.length >= written);
  await reader.stop();
  assert.deepEqual(reader.positions(), upTo(written));
  assert.deepEqual(
    reader
      .texts()
      .map(Number)
      .sort((a, b) => a - b),
    upTo(written),
  );
  assert.deepEqual(reader.got, await collect(client.all("killed")));
});

test("connections that break all the time are no matter", async () => {
  const wire = await startWire(deployment.url);
  const reader = follow(new Client({ url: wire.url, retry: { least: 1, most: 10 } }), "cut", 0);
  for (let i = 1; i <= 50; i++) {
    await client.append("cut", String(i), { wait });
    await until("it has come", () => reader.got.length === i);
    wire.fates = [
      says(503, "no"),
      "lose",
      problem(503, "too-many"),
      says(200, ": later\nretry: 1\n\n", { "Content-Type": "text/event-stream" }),
    ];
    wire.cut();
  }
  await reader.stop();
  assert.deepEqual(reader.texts(), upTo(50).map(String));
  const from = wire.seen.filter(({ path }) => path.endsWith("/events")).map(({ headers }) => Number(headers["last-event-id"]));
  assert.ok(from.length > 100 && from.every((position, i) => i === 0 || position >= (from[i - 1] as number)));
});

test("what was cleared while the stream was away is no gap", async () => {
  const wire = await startWire(deployment.url);
  await client.appendMany("skip", ["1", "2", "3"], { wait });
  wire.fates = Array(1000).fill("lose");
  const reader = follow(new Client({ url: wire.url, retry: { least: 1, most: 10 } }), "skip", 1);
  await client.clear("skip", { wait });
  await client.append("skip", "4", { wait });
  wire.fates = [];
  await until("what is left has come", () => reader.got.length === 1);
  await reader.stop();
  assert.deepEqual(reader.positions(), [4]);
});

const eventOf = (position: number, id = String(position)) => {
  const shown = { position, id: `0-ab-${position}`, body: "x", content_type: "text/plain", accepted_at: "a", persisted_at: "b" };
  return `id: ${id}\nevent: message\ndata: ${JSON.stringify(shown)}\n\n`;
};
const streamOf = (...events: string[]) => says(200, events.join(""), { "Content-Type": "text/event-stream" });

test("a gap where nothing was cleared, and a way back, are errors", async () => {
  const wire = await startWire(deployment.url);
  const broken = new Client({ url: wire.url });
  await client.appendMany("gap", ["1", "2", "3"], { wait });
  wire.fates = [streamOf(eventOf(1), eventOf(3))];
  await assert.rejects(collect(broken.tail("gap", { after: 0 })), { kind: "positions" });
  wire.fates = [streamOf(eventOf(2), eventOf(2))];
  await assert.rejects(collect(broken.tail("gap", { after: 1 })), { kind: "positions" });
  const page = (...positions: number[]) => {
    const messages = positions.map((position) => ({
      position,
      id: "i",
      body: "",
      content_type: "",
      accepted_at: "",
      persisted_at: "",
    }));
    return says(200, JSON.stringify({ log: "gap", messages, last_position: 3, count: 3, first_position: 1 }));
  };
  wire.fates = [page(1, 3)];
  await assert.rejects(collect(broken.all("gap")), { kind: "positions" });
  wire.fates = [page()];
  await assert.rejects(collect(broken.all("gap")), { kind: "positions" });
});

test("events of other kinds are passed over, but not their place", async () => {
  const wire = await startWire(deployment.url);
  const broken = new Client({ url: wire.url });
  const other = (id: number) => `id: ${id}\nevent: other\ndata: {}\n\n`;
  const piecewise =
    (...pieces: string[]) =>
    async (answer: ServerResponse) => {
      answer.writeHead(200, { "Content-Type": "text/event-stream" });
      for (const piece of pieces) await new Promise((resolve) => answer.write(piece, () => setTimeout(resolve, 20)));
      answer.end();
    };
  wire.fates = [piecewise("id: 0\n\n", eventOf(1), other(5)), piecewise("id: 5\n\n", eventOf(6))];
  const got = await take(2, broken.tail("x", { after: 0 }));
  assert.deepEqual(
    got.map(({ position }) => position),
    [1, 6],
  );
  assert.deepEqual(
    wire.seen.map(({ headers }) => headers["last-event-id"]),
    ["0", "5"],
  );
});

test("a stream that makes no sense ends it, and one that is refused for good", async () => {
  const wire = await startWire(deployment.url);
  const broken = new Client({ url: wire.url });
  for (const [fate, kind] of [
    [streamOf("data: no JSON\n\n"), "protocol"],
    [streamOf(eventOf(1, "2")), "protocol"],
    [streamOf("id: x\n\n"), "protocol"],
    [says(200, "<html>"), "protocol"],
    [says(204, ""), "protocol"],
    [says(302, "", { Location: "/elsewhere" }), "protocol"],
    [problem(403, "forbidden"), "forbidden"],
    [says(404, "nothing"), "other"],
  ] as const) {
    wire.fates = [fate];
    await assert.rejects(collect(broken.tail("x", { after: 0 })), { kind, retryable: false });
  }
});

test("events come in pieces of any size, with any line ends", async () => {
  const wire = await startWire(deployment.url);
  const broken = new Client({ url: wire.url });
  const text = `\ufeff: a comment\nretry: 7\nid: 0\n\nevent: other\ndata: x\n\n${eventOf(1)}${eventOf(2).replaceAll("\n", "\r\n")}data\n\nid: 3\ndata: cut off`;
  const bytes = Buffer.from(text.replace("data\n\n", eventOf(3).replace('"x"', '"é🦆"')));
  for (const size of [1, 2, 3, 5, 7, 1000]) {
    wire.fates = [
      (answer) => {
        answer.writeHead(200, { "Content-Type": "text/event-stream" });
        for (let i = 0; i < bytes.length; i += size) answer.write(bytes.subarray(i, i + size));
        answer.end();
      },
    ];
    const batches: (string | null)[] = [];
    let place: number | null = null;
    const end = { kind: "connection", retryAfter: 7, status: 200, retryable: true };
    await assert.rejects(async () => {
      for await (const { messages, position } of broken.stream("x")) {
        batches.push(...messages.map((message) => message.text));
        place = position;
      }
    }, end);
    assert.deepEqual([batches, place], [["x", "x", "é🦆"], 3], `pieces of ${size} bytes`);
  }
});

test("a stream shows signs of life, and one without them is given up", async () => {
  const wire = await startWire(deployment.url);
  const impatient = new Client({ url: wire.url, silence: 100, retry: { least: 1, most: 5 } });
  await client.append("silent", "1", { wait });
  wire.fates = [streamOfLife, streamOfLife];
  const reader = follow(impatient, "silent", 0);
  await until("another stream has brought it", () => reader.got.length === 1);
  await reader.stop();
  wire.fates = [streamOfLife];
  const [sign] = await take(1, impatient.stream("silent", { after: 0 }));
  assert.deepEqual(sign, { messages: [], position: 0 });
  wire.fates = [streamOfLife];
  await assert.rejects(collect(impatient.stream("silent", { after: 0 })), {
    kind: "connection",
    detail: /nothing came for 100 ms/,
  });
});

const streamOfLife = (answer: ServerResponse) => {
  answer.writeHead(200, { "Content-Type": "text/event-stream" });
  answer.write(": hello\n\n"); // and then nothing
};

test("a signal ends a tail in any state, quietly, and leaves no connection", async () => {
  const wire = await startWire(deployment.url);
  const broken = new Client({ url: wire.url });
  for (const fate of ["hang", "lose", streamOfLife] as const) {
    const before = wire.seen.length;
    wire.fates = [fate, ...Array(1000).fill("lose")];
    const reader = follow(broken, "ended", 0);
    await until("it has been asked", () => wire.seen.length > before);
    await reader.stop();
    wire.fates = [];
    await until("no connection is left", () => wire.connections === 0);
  }
  assert.deepEqual(await collect(client.tail("ended", { signal: AbortSignal.abort() })), []);
  const control = new AbortController();
  await client.appendMany("ended", ["1", "2", "3"], { wait });
  const got: (string | null)[] = [];
  for await (const { text } of client.tail("ended", { after: 0, signal: control.signal })) {
    got.push(text);
    control.abort();
  }
  assert.deepEqual(got, ["1"], "what has come already is no longer given");
});

test("messages come only as fast as they are taken", async () => {
  const wire = await startWire(deployment.url);
  const slow = new Client({ url: wire.url, silence: 1500 });
  await client.appendMany("slow", ["1", "2", "3"], { wait });
  const got: number[] = [];
  for await (const { position } of slow.tail("slow", { after: 0 })) {
    got.push(position);
    if (position === 4) break;
    if (position < 3) continue;
    await new Promise((resolve) => setTimeout(resolve, 2000)); // longer than a stream may be silent
    await client.append("slow", "4");
  }
  assert.deepEqual([got, wire.seen.length], [[1, 2, 3, 4], 1], "it is one stream");
  await until("left early, it leaves no connection", () => wire.connections === 0);
});
