// What goes wrong, and what is said of it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { Client, DrainmarkError, problemKinds } from "@drainmark/client";
import { collect, principal, startDeployment, take, until } from "./deployment.js";
import { problem, says, startWire } from "./wire.js";

const open = await startDeployment();
const secured = await startDeployment(
  `principals:\n${principal("writer", "append:a.*", "read:a.*")}${principal("other", "append:b.*")}`,
);
const wire = await startWire(open.url);
const wait = 30_000;

const failure = (call: Promise<unknown>) =>
  call.then(
    () => assert.fail("it should have failed"),
    (error) => (error instanceof DrainmarkError ? error : assert.fail(`${error}`)),
  );

test("the kinds are those of the API", () => {
  const text = readFileSync(process.env.HTTP_API ?? assert.fail("HTTP_API names docs/http-api.md"), "utf8");
  const table = text.slice(text.indexOf("| type `urn:drainmark:problem:…` |")).split("\n\n", 1)[0] ?? "";
  const documented = [...table.matchAll(/^\| `([a-z-]+)`/gm)].map((match) => match[1]);
  assert.ok(documented.length > 15);
  assert.deepEqual([...problemKinds].sort(), documented.sort());
});

test("a server's no has its kind, status and detail", async () => {
  const client = open.client();
  const large = await failure(client.append("x", "x".repeat(300_000)));
  assert.deepEqual([large.kind, large.status, large.nothingDone, large.retryable], ["too-large", 413, true, false]);
  assert.match(large.detail, /262144/);
  assert.match(large.message, /^POST \/v1\/logs\/x\/messages: 413: .*262144/);
  const twice = await failure(client.append("x", { body: "x", headers: { a: "1", A: "2" } }));
  assert.equal(twice.kind, "invalid");
  assert.equal((await failure(client.append("Not A Log", "x"))).kind, "invalid");
  assert.equal((await failure(client.messages("nobody-wrote"))).kind, "not-found");
  assert.equal((await failure(client.messages("x", { limit: 5000 }))).kind, "invalid");
  assert.equal((await failure(client.status("garbage"))).kind, "invalid-receipt");
  assert.equal((await failure(client.retryDeadLetter("0-00-1"))).kind, "not-found");
  assert.equal((await failure(client.append("x", { body: "x", key: "k".repeat(256) }))).kind, "invalid");
});

test("tokens: a text, and a function that is asked again", async () => {
  assert.equal((await failure(secured.client().append("a.1", "x"))).kind, "unauthenticated");
  assert.equal((await failure(secured.client({ token: "dmk_wrong" }).append("a.1", "x"))).kind, "unauthenticated");
  const writer = secured.client({ token: "dmk_writer" });
  assert.equal((await writer.append("a.1", "x", { wait })).state, "persisted");
  assert.equal((await failure(writer.append("b.1", "x"))).kind, "forbidden");

  const asked: string[] = [];
  const renewed = secured.client({
    retry: false,
    token: async (refused) => {
      asked.push(refused);
      return refused === "" ? "dmk_old" : "dmk_writer";
    },
  });
  assert.equal((await renewed.append("a.1", "y")).state, "accepted");
  assert.deepEqual(asked, ["", "dmk_old"]);
  assert.equal((await take(1, renewed.tail("a.1", { after: 0 })))[0]?.text, "x");
});

test("a token that cannot be had is not a request", async () => {
  const cause = new Error("the issuer sleeps");
  const client = new Client({ url: wire.url, token: () => Promise.reject(cause) });
  wire.seen.length = 0;
  const error = await failure(client.append("x", "x"));
  assert.deepEqual([error.kind, error.nothingDone, error.attempts, error.cause], ["unauthenticated", true, 0, cause]);
  const odd = await failure(new Client({ url: wire.url, token: "dmk_geheim ä" }).append("x", "x"));
  assert.ok(odd.kind === "unauthenticated" && !odd.message.includes("geheim"));
  const control = new AbortController();
  const never = failure(
    new Client({ url: wire.url, token: () => new Promise(() => {}) }).append("x", "x", { signal: control.signal }),
  );
  control.abort();
  assert.deepEqual([(await never).kind, (await never).nothingDone], ["aborted", true]);
  assert.equal(wire.seen.length, 0);
});

test("a user and a password in the URL are sent, and never shown", async () => {
  const client = new Client({ url: wire.url.replace("//", "//me:s%C3%A9cret@"), retry: false });
  wire.seen.length = 0;
  await client.append("x", "x");
  assert.equal(wire.seen[0]?.headers.authorization, `Basic ${Buffer.from("me:sécret").toString("base64")}`);
  wire.fates = ["lose"];
  const error = await failure(client.append("x", "x"));
  assert.doesNotMatch(`${error} ${error.stack} ${error.cause} ${JSON.stringify(error)}`, /cret/);
  for (const url of ["ftp://me:secret@host", "http://me:secret@host?q", "me:secret@@@", "http://me:secret@host/#x"]) {
    assert.throws(
      () => new Client({ url }),
      (error: Error) => error instanceof TypeError && !error.message.includes("secret"),
    );
  }
});

test("a prefix is kept", async () => {
  wire.seen.length = 0;
  wire.fates = [says(404, "")];
  await failure(new Client({ url: `${wire.url}/some/where//` }).messages("x", { after: 3, limit: 5 }));
  assert.equal(wire.seen[0]?.path, "/some/where/v1/logs/x/messages?after=3&limit=5");
});

test("answers that are not the API's", async () => {
  const client = new Client({ url: wire.url, retry: false });
  const page = (more: string) => says(200, `{"log":"x","messages":[],"last_position":0,"count":0,"first_position":1,${more}}`);
  for (const [fate, kind, call] of [
    [says(200, "<html>"), "protocol", () => client.messages("x")],
    [says(200, "[]"), "protocol", () => client.messages("x")],
    [says(200, "{}"), "protocol", () => client.messages("x")],
    [page('"log":"y"'), "protocol", () => client.messages("x")],
    [page('"count":1'), "protocol", () => client.messages("x")],
    [page('"last_position":9007199254740993'), "protocol", () => client.messages("x")],
    [page('"messages":[{"position":1}]'), "protocol", () => client.messages("x")],
    [says(302, "", { Location: "/v1/elsewhere" }), "protocol", () => client.append("x", "x")],
    [says(304, ""), "protocol", () => client.messages("x")],
    [says(202, '{"receipt":"r","count":2,"state":"accepted"}'), "protocol", () => client.append("x", "x")],
    [says(202, '{"count":1,"state":"accepted"}'), "protocol", () => client.append("x", "x")],
    [says(200, '{"partitions":[]}'), "protocol", () => client.backlog()],
    [says(200, '{"partitions":[{"persisted":9007199254740993}]}'), "protocol", () => client.backlog()],
    [says(200, "{}"), "protocol", () => client.working()],
    [says(200, "{}"), "protocol", () => client.consumers()],
    [says(200, "{}"), "protocol", () => collect(client.deadLetters())],
    [says(200, "{}"), "protocol", () => client.retryDeadLetters({ log: "x" })],
    [says(418, '{"type":"urn:example:teapot","detail":"secret of somebody else"}'), "other", () => client.messages("x")],
    [problem(400, "not-known-yet"), "other", () => client.messages("x")],
  ] as const) {
    wire.fates = [fate];
    const error = await failure(call());
    assert.equal(error.kind, kind, `${error}`);
    assert.doesNotMatch(error.message, /somebody else/);
  }
});

test("an unknown outcome has the receipt, of whichever attempt", async () => {
  const client = new Client({ url: wire.url, retry: { attempts: 2, least: 1 } });
  wire.fates = [problem(504, "outcome-unknown", { "Drainmark-Receipt": "AbC" }), says(502, "")];
  const error = await failure(client.append("x", "x"));
  assert.deepEqual([error.kind, error.receipt, error.nothingDone, error.attempts], ["other", "AbC", false, 2]);
});

test("a call takes no longer than it may, and ends when its signal does", async () => {
  wire.fates = [(answer) => answer.writeHead(200, { "Content-Length": "10" }).write("{")];
  const half = await failure(new Client({ url: wire.url, retry: false, timeout: 1000 }).messages("x"));
  assert.deepEqual([half.kind, half.status, half.retryable], ["connection", 200, true]);
  assert.match(half.detail, /no answer in time.* 1000 ms/);

  const client = new Client({ url: wire.url, retry: false, timeout: 50 });
  wire.fates = ["hang"];
  const late = await failure(client.append("x", "x"));
  assert.deepEqual([late.kind, late.nothingDone, late.retryable], ["connection", false, true]);
  assert.match(late.detail, /no answer in time.* 50 ms/);
  assert.equal((late.cause as Error).name, "TimeoutError");

  const reason = new Error("enough");
  const control = new AbortController();
  wire.fates = ["hang"];
  const before = wire.seen.length;
  const given = failure(new Client({ url: wire.url }).append("x", "x", { signal: control.signal }));
  await until("it was sent", () => wire.seen.length > before);
  control.abort(reason);
  const aborted = await given;
  assert.deepEqual([aborted.kind, aborted.cause, aborted.nothingDone, aborted.retryable], ["aborted", reason, false, false]);

  const paused = new AbortController();
  let asked = 0;
  const refusing = async () => {
    asked++;
    setTimeout(() => paused.abort()); // when the call has seen the answer, and waits
    const body = JSON.stringify({ type: "urn:drainmark:problem:unavailable", status: 503 });
    return new Response(body, { status: 503, headers: { "Retry-After": "10" } });
  };
  const stopped = await failure(new Client({ url: wire.url, fetch: refusing }).clear("x", { signal: paused.signal }));
  assert.deepEqual([stopped.kind, stopped.nothingDone, stopped.status, asked], ["aborted", true, 503, 1]);
  const signal = AbortSignal.abort();
  const tokenless = new Client({ url: wire.url, token: () => Promise.reject(new Error("nobody hears this")) });
  assert.equal((await failure(tokenless.append("x", "x", { signal }))).kind, "aborted");
  const never = await failure(new Client({ url: wire.url }).append("x", "x", { signal }));
  assert.deepEqual([never.kind, never.nothingDone, wire.seen.length - before], ["aborted", true, 1]);
  assert.throws(() => new Client({ url: wire.url, timeout: 0 }), TypeError);
});

test("pages of a replica that is behind are asked for again", async () => {
  const page = (last: number, ...positions: number[]) => {
    const messages = positions.map((position) => ({
      position,
      id: "i",
      body: "",
      content_type: "",
      accepted_at: "",
      persisted_at: "",
    }));
    return says(200, JSON.stringify({ log: "x", messages, last_position: last, count: last, first_position: 1 }));
  };
  const client = new Client({ url: wire.url, retry: { least: 1, most: 5 } });
  wire.fates = [page(4, 1, 2), page(2), problem(404, "not-found"), page(4, 3, 4)];
  assert.deepEqual(
    (await collect(client.all("x"))).map(({ position }) => position),
    [1, 2, 3, 4],
  );
});

test("fetch can be somebody else's", async () => {
  const asked: string[] = [];
  const client = open.client({
    fetch(this: unknown, url, init) {
      assert.equal(this, undefined, "a browser's own is one of nobody else's methods");
      asked.push(`${init?.method} ${new URL(String(url)).pathname}`);
      return fetch(url, { ...init, headers: { ...Object.fromEntries(new Headers(init?.headers)), traceparent } });
    },
  });
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  await client.append("traced", "x", { wait });
  assert.deepEqual(asked, ["POST /v1/logs/traced/messages"]);
  assert.equal((await client.messages("traced")).messages[0]?.headers.traceparent, traceparent);
});
