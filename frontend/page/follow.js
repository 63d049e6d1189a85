// Following a log: an event stream where that works, this page's or that of another page of the browser; asking again
// and again where it does not; and always from the last position on, so that nothing is missed and nothing is seen twice.

import { Bell, api } from "./api.js";
import { DrainmarkError } from "./drainmark.js";
import { why } from "./errors.js";
import { Share } from "./share.js";
import { take } from "./turns.js";

const endOfLog = Number.MAX_SAFE_INTEGER; // the API's highest position
const firstPage = 50;    // messages that are shown at first
const farBehind = 300;   // messages; who is further behind begins anew with the newest ones
const askEvery = 2_000;  // ms, while there is no stream
const checkEvery = 15_000; // ms, while there is one: that it is open does not say that the server can read the log
const freshFor = 20_000; // ms for which "up to date" can be said after a check
const openWithin = 10_000; // ms until a stream is open
const surelyOpen = 300;  // ms; a stream that refuses says so, and ends at once
const lagFor = 5_000;    // ms for which a stream may lack what asking has found
const hiddenFor = 5_000; // ms after which a page that nobody looks at gives its stream back, and rests
const backFor = 20_000;  // ms for which answers may end before what was seen; a replica may lag, but not that long
const shortLived = 2_000; // ms; a stream that ends sooner is no better than none

const now = () => performance.now();

// Follower follows one log. Its handlers are called with what it finds:
//   begin(messages): the newest messages, which replace whatever was known before
//   messages(messages): what came next, in order
//   log({last, count}): how the log stands
//   change(): something of mode, problem, position, or checkedAt has changed
export class Follower {
  mode = "connecting"; // a stream that has not begun yet, or rest; or "live", "asking", "offline"
  problem = ""; // why it is offline
  position = null; // of the newest message seen; null before the first answer
  checkedAt = null; // when it was last known that there was nothing behind the position, or null

  #log;
  #handlers;
  #known = 0; // the log's last position, as far as is known
  #lag = null; // {position, since}: what had been seen when an answer first ended before it, and when that was
  #page = {}; // the last one asked for, and behind which position: {after, page}
  #reads = Promise.resolve(true); // one at a time
  #askedAt = 0;
  #bell = new Bell();
  #hiddenAt = document.hidden ? now() : null;
  #again = null; // ends the stream, to be opened at another position
  #share;

  constructor(log, handlers) {
    this.#log = log;
    this.#handlers = handlers;
    this.#share = new Share(log, {
      messages: (after, messages) => this.#handed(after, messages),
      sign: (position) => this.#signed(position),
      ended: () => this.#bell.ring(),
    });
    addEventListener("pagehide", () => this.#again && this.#share.end());
    addEventListener("online", () => this.#bell.ring());
    document.addEventListener("visibilitychange", () => {
      this.#hiddenAt = document.hidden ? now() : null;
      this.#bell.ring();
    });
  }

  // upToDate says whether it is known that there is nothing behind the position.
  get upToDate() {
    return this.checkedAt !== null && now() - this.checkedAt < freshFor && this.#complete();
  }

  // run follows for as long as the page lives.
  async run() {
    let failed = 0; // reads in a row
    let refused = 0; // streams in a row
    let streamAt = 0; // when to try a stream again
    for (;;) {
      await this.#rest();
      if (this.#due() && !(await this.read())) {
        this.#become("offline");
        await this.#bell.wait(Math.min(1000 * 2 ** failed++, 15_000) * (0.5 + Math.random() / 2));
        continue;
      }
      failed = 0;
      const turn = now() < streamAt ? null : await take("stream", (lost) => this.#stream(lost));
      if (!turn) {
        this.#become(this.#share.fed ? "live" : "asking");
        await this.#bell.wait(askEvery);
        continue;
      }
      const { worked, retryAfter } = turn.value;
      refused = worked ? 0 : refused + 1;
      streamAt = now() + (worked ? 200 + 500 * Math.random() : Math.max(retryAfter, Math.min(5000 * 2 ** (refused - 1), 60_000)));
      if (worked) await this.#bell.wait(streamAt - now());
    }
  }

  // rest waits while nobody looks at the page. Whoever looks again sees what has come since at once.
  async #rest() {
    while (this.#hiddenLong()) {
      this.#become("connecting");
      await this.#bell.wait(60_000);
    }
  }

  // due says whether it is time to ask: always, unless another page hands on what its stream brings.
  #due() {
    return this.position === null || !this.#share.fed || now() - Math.max(this.checkedAt ?? 0, this.#askedAt) > checkEvery;
  }

  // read asks for what is behind the position, and returns whether there was an answer.
  read() {
    this.#reads = this.#reads.then(async () => {
      this.#askedAt = now();
      try {
        await (this.position === null ? this.#begin() : this.#catchUp());
        return true;
      } catch (error) {
        if (!(error instanceof DrainmarkError)) {
          reportError(error);
          return false;
        }
        if (error.status === 404 && (await this.#nothing())) return true;
        this.problem = error.status === 0 ? "" : why(error);
        return false;
      } finally {
        this.#tell("change");
      }
    });
    return this.#reads;
  }

  // beginAnew forgets the position, and goes on from the newest messages.
  beginAnew() {
    this.position = null;
    this.#again?.();
    return this.read();
  }

  // range returns the messages behind one position and up to another, less what has been cleared.
  async range(after, through) {
    const found = [];
    if (after >= through) return found;
    for await (const message of api.all(this.#log, { after, limit: Math.min(through - after, 1000) })) {
      if (message.position <= through) found.push(message);
      if (message.position >= through) break;
    }
    return found;
  }

  // end returns how the log stands, from a state that has the writes of a receipt if there is one. It can wait for that, ms.
  async end(receipts, wait) {
    const { lastPosition: last, count } = await api.messages(this.#log, { after: endOfLog, limit: 1, receipts, wait });
    return { last, count };
  }

  async #begin() {
    const log = await this.end();
    const messages = await this.range(Math.max(0, log.last - Math.min(firstPage, log.count)), log.last);
    this.#known = 0; // the log may be a new one
    this.#note(log);
    this.position = log.last;
    this.#lag = null;
    this.#tell("begin", messages);
    this.#checked();
  }

  // nothing is the answer that nobody has written yet, or that the deployment is another one.
  async #nothing() {
    if (this.position === null || this.position === 0) {
      if (this.position === null) this.#tell("begin", []);
      this.position = this.#known = 0;
      this.#note({ last: 0, count: 0 });
      this.#checked();
      return true;
    }
    this.#lags(this.position, 0);
    return this.position !== null || this.#nothing();
  }

  async #catchUp() {
    for (;;) {
      const asked = this.position; // the stream goes on meanwhile
      const known = this.#page.after === asked ? this.#page.page : undefined;
      const page = await api.messages(this.#log, { after: asked, limit: 100, known });
      this.#page = { after: asked, page };
      const { lastPosition: last, count, messages } = page;
      const lags = this.position !== null && this.#lags(asked, last);
      if (this.position === null || last - this.position > farBehind) {
        this.#again?.();
        return this.#begin();
      }
      if (lags) return; // it tells nothing that is not known better
      if (page === known) break;
      this.#note({ last, count });
      this.#take(messages);
      if (messages.length === 0 || this.position >= this.#known) break;
    }
    this.#checked();
  }

  // note takes in how the log stands, or stood: the stream may have brought more meanwhile.
  #note(log) {
    this.#known = Math.max(this.#known, log.last);
    this.#tell("log", log);
  }

  // lags says whether an answer ends before what had been seen when it was asked for. Then a replica lags; or the log is
  // a new one, which is so if no answer gets as far as that for long. How far the stream has come meanwhile is no matter:
  // where messages come fast, an answer is always older than that.
  #lags(asked, last) {
    if (this.#lag !== null && last >= this.#lag.position) this.#lag = null;
    if (last >= asked) return false;
    this.#lag ??= { position: asked, since: now() };
    if (now() - this.#lag.since >= backFor) {
      this.position = null;
      this.#lag = null;
      this.#again?.();
    }
    return true;
  }

  // complete says that nothing is known to be behind the position, and that the log is not known to end before it.
  #complete() {
    return this.position !== null && this.position >= this.#known && this.#lag === null;
  }

  #checked() {
    if (this.#complete()) this.checkedAt = now();
  }

  // take hands on what has not been seen. With it the log is further than any answer that lagged: it is no new one.
  #take(messages) {
    const fresh = messages.filter((m) => m.position > this.position);
    if (fresh.length === 0) return;
    this.position = fresh.at(-1).position;
    this.#known = Math.max(this.#known, this.position);
    this.#lag = null;
    this.#tell("messages", fresh);
  }

  // handed takes what another page's stream has brought, unless something before it is missing here.
  #handed(after, messages) {
    if (this.position === null || after > this.position) return;
    this.#take(messages);
    this.#checked();
  }

  // signed notes how far another page's stream is. What is missing here is asked for.
  #signed(position) {
    if (this.mode === "asking" && !this.#hiddenLong()) this.#become("live");
    if (this.position !== null && position > this.position && now() - this.#askedAt > 1000) this.read();
  }

  #become(mode) {
    this.mode = mode;
    this.#tell("change");
  }

  // tell calls a handler, whose mistakes must not look like those of the connection.
  #tell(what, ...about) {
    try {
      this.#handlers[what](...about);
    } catch (error) {
      reportError(error);
    }
  }

  #hiddenLong() {
    return this.#hiddenAt !== null && now() - this.#hiddenAt >= hiddenFor;
  }

  // stream follows an event stream until it ends, and returns whether it was of use.
  async #stream(lost) {
    const control = new AbortController();
    this.#become("connecting");
    const stream = {
      openedAt: null, position: this.position, laggedSince: null, useless: false, retryAfter: 0,
    };
    this.#again = () => control.abort();
    lost.addEventListener("abort", this.#again);
    const watch = setInterval(() => this.#watch(stream, control), 1000);
    try {
      for await (const { messages } of api.stream(this.#log, { after: this.position, timeout: openWithin, signal: control.signal })) {
        if (stream.openedAt === null) {
          stream.openedAt = now();
          stream.settling = setTimeout(() => this.#settled(stream), surelyOpen);
        }
        if (messages.length > 0) this.#brought(stream, messages);
      }
    } catch (error) {
      stream.retryAfter = error.retryAfter ?? 0; // cut, or given up: what there is behind the position is asked for either way
    } finally {
      clearInterval(watch);
      clearTimeout(stream.settling);
      control.abort();
      this.#again = null;
      this.#share.end();
      this.#become("connecting");
    }
    const lived = stream.openedAt === null ? 0 : now() - stream.openedAt;
    return { worked: !stream.useless && lived > shortLived, retryAfter: stream.retryAfter };
  }

  #brought(stream, messages) {
    this.#share.hand(stream.position, messages);
    stream.position = messages.at(-1).position;
    this.#take(messages);
    this.#checked();
    this.#settled(stream);
  }

  // settled says that the stream is a stream, and not a refusal.
  #settled(stream) {
    stream.settled = true;
    if (this.mode !== "live") this.#become("live");
    this.#share.sign(this.position);
  }

  // watch ends a stream that is of no use, and checks now and then that nothing is behind the position.
  #watch(stream, control) {
    if (stream.position >= this.position) stream.laggedSince = null;
    else stream.laggedSince ??= now();
    stream.useless ||= stream.laggedSince !== null && now() - stream.laggedSince > lagFor;
    if (stream.useless || this.#hiddenLong()) return control.abort();
    if (stream.settled) this.#share.sign(this.position);
    if (now() - Math.max(this.checkedAt ?? 0, this.#askedAt) > checkEvery) this.read();
  }
}
