import assert from "node:assert/strict";
import test from "node:test";
import { DrainmarkError, idsOf, merge, type NewMessage } from "@drainmark/client";
import { collect, startDeployment, take } from "./deployment.js";

const deployment = await startDeployment();
const client = deployment.client();
const wait = 30_000;

test("a message is persisted and read as it was appended", async () => {
  const accepted = await client.append("one", "hello");
  assert.equal(accepted.state, "accepted");
  assert.ok(accepted.id && accepted.receipt && accepted.backend);
  const status = await client.wait(accepted.receipt);
  assert.equal(status.state, "persisted");
  const { messages, lastPosition, count, firstPosition } = await client.messages("one", { receipts: accepted.receipt, wait });
  assert.deepEqual([lastPosition, count, firstPosition], [1, 1, 1]);
  const [message] = messages;
  assert.ok(message);
  const { acceptedAt, persistedAt, ...rest } = message;
  assert.match(acceptedAt + persistedAt, /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z){2}$/);
  assert.deepEqual(rest, {
    position: 1,
    id: accepted.id,
    text: "hello",
    bytes: new TextEncoder().encode("hello"),
    contentType: "text/plain; charset=utf-8",
    headers: {},
    erased: false,
  });
});

test("after a wait it is persisted", async () => {
  assert.equal((await client.append("waited", new Uint8Array([0, 255]), { wait })).state, "persisted");
  const [message] = (await client.messages("waited")).messages;
  assert.deepEqual(
    [message?.text, [...(message?.bytes ?? [])], message?.contentType],
    [null, [0, 255], "application/octet-stream"],
  );
});

test("headers, types and keys arrive", async () => {
  const sent: NewMessage[] = [
    { body: "", headers: { Tenant: "7", __proto__x: "y", schema: "Grüße, 世界" } },
    { body: '{"body":"a line"}\n', contentType: "application/x-ndjson", key: 'with "quotes" and \\' },
    { body: "x", contentType: "text/markdown", key: "note, 17; a=b", headers: { empty: "" } },
    { body: "[]", contentType: "application/cloudevents-batch+json", key: "of another type" },
  ];
  for (const [i, message] of sent.entries()) {
    const { id } = await client.append("kinds", message, { wait });
    const [found] = (await client.messages("kinds", { after: i })).messages;
    assert.equal(found?.id, id);
  }
  const found = (await client.messages("kinds")).messages;
  assert.deepEqual(
    found.map(({ text, contentType, headers }) => [text, contentType, headers]),
    [
      ["", "text/plain; charset=utf-8", { tenant: "7", __proto__x: "y", schema: "Grüße, 世界" }],
      ['{"body":"a line"}\n', "application/x-ndjson", {}],
      ["x", "text/markdown", { empty: "" }],
      ["[]", "application/cloudevents-batch+json", {}],
    ],
  );
  for (const message of sent.slice(1)) await client.append("kinds", message, { wait });
  assert.equal((await client.messages("kinds")).count, 4, "what has a key is appended once");
});

test("many messages stand in their order, and are called what the answer says", async () => {
  const bodies = Array.from({ length: 1000 }, (_, i) => `message ${i}`);
  const accepted = await client.appendMany("many", bodies, { wait });
  assert.deepEqual([accepted.state, accepted.count], ["persisted", 1000]);
  const read = await collect(client.all("many", { limit: 300 }));
  assert.deepEqual(
    read.map(({ text, position }) => [position, text]),
    bodies.map((body, i) => [i + 1, body]),
  );
  assert.deepEqual(
    [...idsOf(accepted)],
    read.map((message) => message.id),
  );
  const again = await client.appendMany("many", bodies, { key: "the same", wait });
  await client.appendMany("many", bodies, { key: "the same", wait });
  assert.equal(again.count, 1000);
  assert.equal((await client.messages("many")).count, 2000);
});

// Any contents: text of all kinds, bytes that are none, nothing. A seed makes the same ones each time.
test("a thousand messages of any content come back byte by byte", async () => {
  const random = randomOf(Number(process.env.SEED ?? 4711));
  const bodies = Array.from({ length: 1000 }, () => anyBody(random));
  const messages = bodies.map((body, i) => ({ body, contentType: `x/${i}` }));
  for (let i = 0; i < messages.length; i += 250) await client.appendMany("any", messages.slice(i, i + 250));
  for (const message of messages.slice(0, 20)) await client.append("any", message);
  const { state } = await client.waitBarrier();
  assert.equal(state, "reached");
  const expected = [...messages, ...messages.slice(0, 20)];
  const paged = await collect(client.all("any", { limit: 77 }));
  const followed = await take(expected.length, client.tail("any", { after: 0 }));
  assert.deepEqual(followed, paged);
  for (const [i, { body, contentType }] of expected.entries()) {
    const bytes = Buffer.from(body);
    assert.ok(bytes.equals(paged[i]?.bytes ?? Buffer.of(1)), `message ${i}: ${JSON.stringify(body)}`);
    assert.equal(paged[i]?.contentType, contentType);
    if (typeof body === "string" && !body.includes("\0")) assert.equal(paged[i]?.text, body);
  }
});

test("what is no text, or no position, is refused before it is sent", async () => {
  const bad: (() => Promise<unknown>)[] = [
    () => client.append("x", "half of \ud83d"),
    () => client.append("x", { body: "x", headers: { a: "\udc00" } }),
    () => client.append("x", { body: "x", key: "ä" }),
    () => client.append("x", { body: "x", contentType: "text/plän" }),
    () => client.append("x", 17 as unknown as string),
    () => client.appendMany("x", []),
    () => client.append("..", "x"),
    () => client.clear(".."),
    () => client.delete(""),
    () => client.messages("x", { after: 2 ** 53 }),
    () => client.messages("x", { after: -1 }),
    () => client.erase("x", 1.5),
    () => client.trim("x", Number.NaN),
    () => take(1, client.tail("x", { after: 2 ** 53 })),
    () => client.status(""),
    () => client.messages("x", { receipts: "ö" }),
  ];
  for (const [i, call] of bad.entries()) {
    await assert.rejects(
      call,
      { name: "DrainmarkError", kind: "invalid", nothingDone: true, attempts: 0, status: 0 },
      `call ${i}`,
    );
  }
});

test("a receipt stands for its writes, and says where they are", async () => {
  const first = await client.append("placed", "a");
  const second = await client.append("placed", "b");
  const both = await client.wait(merge(first.receipt, "", second.receipt));
  assert.deepEqual([both.state, both.count], ["persisted", 2]);
  const placed = await client.status(both.receipt, { log: "placed", wait });
  assert.deepEqual(
    placed.messages,
    [first.id, second.id].map((id, i) => ({ log: "placed", position: i + 1, id })),
  );
});

test("one reads one's own writes, or is told that they are not there yet", async () => {
  await client.append("own", "before", { wait });
  await deployment.pause(true);
  const { receipt } = await client.append("own", "after");
  await assert.rejects(client.messages("own", { receipts: receipt }), { kind: "not-reached", status: 412, attempts: 1 });
  const states: string[] = [];
  const reached = client.waitBarrier({ onStatus: ({ state }) => states.push(state) });
  const page = client.messages("own", { receipts: receipt, wait });
  assert.equal((await client.barrier({ logs: ["own"] })).state, "pending");
  assert.ok((await client.backlog()).pending.records > 0);
  await deployment.pause(false);
  assert.deepEqual(
    (await page).messages.map((message) => message.text),
    ["before", "after"],
  );
  assert.equal((await reached).setAside, 0);
  assert.equal(states.at(-1), "reached");
});

test("a key that stands for something else is rejected, and its dead letter can be settled", async () => {
  await client.append("letters", { body: "one", key: "k" }, { wait });
  const accepted = await client.append("letters", { body: "two", key: "k", headers: { a: "b" } });
  const status = await client.wait(accepted.receipt);
  assert.equal(status.state, "rejected");
  assert.ok(status.reason?.startsWith("idempotency-key-reused"), status.reason);
  assert.deepEqual([status.rejected?.count, status.rejected?.exact, status.rejected?.deadLetters], [1, true, [accepted.id]]);
  const failed = await client.append("letters", { body: "three", key: "k" }, { wait }).catch((error) => error);
  assert.ok(failed instanceof DrainmarkError);
  assert.deepEqual(
    [failed.kind, failed.rejected?.state, failed.nothingDone, failed.retryable],
    ["rejected", "rejected", false, false],
  );
  assert.equal(failed.receipt, failed.rejected?.receipt);

  const filter = { log: "letters", reason: "idempotency-key-reused" };
  const letters = await collect(client.deadLetters({ ...filter, limit: 1 }));
  assert.deepEqual(
    letters.map(({ text, key, headers, log, undecoded }) => [text, key, headers, log, undecoded]),
    [
      ["two", "k", { a: "b" }, "letters", false],
      ["three", "k", undefined, "letters", false],
    ],
  );
  const [letter] = letters;
  assert.ok(letter?.bytes && letter.setAsideAt && letter.acceptedAt && letter.first && letter.attempts === 1);
  assert.equal((await client.deadLettersPage({ body: false })).letters[0]?.bytes, null);
  assert.deepEqual(await collect(client.deadLetters({ log: "no" })), []);
  assert.equal((await client.countDeadLetters({ ...filter, before: new Date() })).deadLetters, 2);

  const retried = await client.retryDeadLetter(letter.id, { wait });
  assert.deepEqual([retried.state, retried.rejected?.deadLetters], ["rejected", [letter.id]]);
  const progress: number[] = [];
  const refused = await client.retryDeadLetters(filter, { onProgress: ({ records }) => progress.push(records) });
  assert.deepEqual([refused, progress.at(-1)], [{ deadLetters: 2, records: 2, refused: 2 }, 2]);
  assert.equal((await client.discardDeadLetter(letter.id, { wait })).state, "persisted");
  await assert.rejects(client.discardDeadLetter(letter.id), { kind: "conflict", nothingDone: true });
  assert.equal((await client.waitBarrier({ logs: ["letters"] })).setAside, 1);
  assert.deepEqual(await client.discardDeadLetters(filter), { deadLetters: 1, records: 1, refused: 0 });
  await assert.rejects(client.discardDeadLetters({}), { kind: "invalid" });
});

test("clearing, trimming, erasing and deleting", async () => {
  await client.appendMany("gone", ["1", "2", "3", "4"], { wait });
  assert.equal((await client.trim("gone", 2, { wait })).state, "persisted");
  assert.equal((await client.erase("gone", 3, { wait })).state, "persisted");
  const { messages, firstPosition } = await client.messages("gone");
  assert.deepEqual(
    [firstPosition, messages.map(({ position, text, erased, contentType }) => [position, text, erased, contentType])],
    [
      3,
      [
        [3, "", true, ""],
        [4, "4", false, "text/plain; charset=utf-8"],
      ],
    ],
  );
  assert.equal((await client.clear("gone", { wait })).state, "persisted");
  const empty = await client.messages("gone");
  assert.deepEqual([empty.count, empty.lastPosition, empty.firstPosition, empty.messages], [0, 4, 5, []]);
  assert.deepEqual(await collect(client.all("gone")), []);
  assert.equal((await client.delete("gone", { wait })).state, "persisted");
  await assert.rejects(client.messages("gone"), { kind: "not-found", status: 404 });
  await client.append("gone", "5", { wait });
  assert.deepEqual(
    (await collect(client.all("gone"))).map(({ position }) => position),
    [5],
  );
});

test("a page that is known is not sent again", async () => {
  await client.append("known", "a", { wait });
  const page = await client.messages("known");
  assert.equal(await client.messages("known", { known: page }), page);
  await client.append("known", "b", { wait });
  assert.equal((await client.messages("known", { known: page })).count, 2);
});

test("what there is, and how it is", async () => {
  for (let i = 0; i < 120; i++) await client.append(`list-${i}`, "x");
  await client.waitBarrier();
  const logs = await collect(client.logs());
  assert.deepEqual(
    logs.filter(({ name }) => name.startsWith("list-")).map(({ name }) => name),
    Array.from({ length: 120 }, (_, i) => `list-${i}`).sort(),
  );
  assert.deepEqual(
    logs.find(({ name }) => name === "list-0"),
    { name: "list-0", lastPosition: 1, count: 1, firstPosition: 1 },
  );
  const working = await client.working();
  assert.deepEqual(
    [working.appends, working.reads, working.persisting.working],
    [{ working: true, reason: null }, { working: true, reason: null }, true],
  );
  const backlog = await client.backlog();
  for (const { inFlight, ready, oldestPendingSeconds, missing, owner, revision } of backlog.partitions) {
    assert.ok(inFlight !== undefined && ready !== undefined, "null where the broker cannot say");
    assert.deepEqual([oldestPendingSeconds, missing], [null, []]);
    assert.ok(owner && revision > 0);
  }
  assert.deepEqual([backlog.pending, backlog.backend], [{ records: 0, exact: true }, working.backend]);
  const { wanted, known } = await client.consumers();
  assert.deepEqual([wanted, known], [0, true]);
});

// randomOf makes numbers from 0 to 1 of a seed (mulberry32).
function randomOf(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const odd = [
  "",
  "\0",
  "\ufeff",
  "\ufeff\ufeffx",
  "\n",
  "\r\n",
  "data: x\n\n",
  "id: 7",
  "\u2028\u2029",
  "\u0085",
  '"\\',
  "🦆",
  "é",
  "e\u0301",
  "\ufffd",
  "\uffff",
  "</script>",
  " ",
  "\u007f",
  "{}",
  "null",
];

function anyBody(random: () => number): string | Uint8Array {
  const below = (n: number) => Math.floor(random() * n);
  const size = below(10) === 0 ? below(3000) : below(20);
  if (below(2) === 0) return Uint8Array.from({ length: size }, () => below(256));
  const one = () => (below(3) === 0 ? (odd[below(odd.length)] as string) : String.fromCodePoint(anyPoint(below)));
  return Array.from({ length: size }, one).join("");
}

function anyPoint(below: (n: number) => number): number {
  const point = below(below(2) === 0 ? 0x80 : 0x110000);
  return point >= 0xd800 && point < 0xe000 ? 0x20 : point;
}
