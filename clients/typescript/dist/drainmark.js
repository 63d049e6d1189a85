// Made of clients/typescript/src (54a981ad18389207f081e8050756c01ac15b525a7d95b667a891bd6805b02290) by its build.js. Do not edit.

// src/admin.ts
function filterQuery({ log, reason, before }) {
  return { ...log && { log }, ...reason && { reason }, ...before && { before: before.toISOString() } };
}

// src/errors.ts
var problemKinds = [
  "invalid",
  "invalid-receipt",
  "unauthenticated",
  "forbidden",
  "not-found",
  "method",
  "conflict",
  "receipt-expired",
  "not-reached",
  "too-large",
  "media-type",
  "rate-limited",
  "misconfigured",
  "internal",
  "backlog-full",
  "disk-full",
  "too-many",
  "unavailable",
  "outcome-unknown"
];
var DrainmarkError = class _DrainmarkError extends Error {
  name = "DrainmarkError";
  kind;
  detail;
  method;
  path;
  status;
  title;
  retryAfter;
  receipt;
  attempts;
  nothingDone;
  retryable;
  rejected;
  cause;
  constructor(parts) {
    super(textOf(parts));
    this.kind = parts.kind;
    this.detail = parts.detail;
    this.method = parts.method;
    this.path = parts.path;
    this.status = parts.status ?? 0;
    this.title = parts.title ?? "";
    this.retryAfter = parts.retryAfter ?? 0;
    this.receipt = parts.receipt ?? "";
    this.attempts = parts.attempts ?? 1;
    this.nothingDone = parts.nothingDone ?? false;
    this.retryable = parts.retryable ?? false;
    this.rejected = parts.rejected ?? null;
    this.cause = parts.cause;
  }
  /** The same error with some parts changed. */
  with(changes) {
    return new _DrainmarkError({ ...this, ...changes });
  }
};
function textOf({ method, path, status, title, detail, attempts = 1 }) {
  const parts = [`${method} ${path.slice(0, 80)}`.trimEnd(), status ? String(status) : "", title ?? "", detail.slice(0, 400)];
  return parts.filter((part) => part !== "").join(": ") + (attempts > 1 ? ` (attempt ${attempts})` : "");
}
var asked = ({ method, path }) => ({ method, path: path.split("?", 1)[0] ?? "" });
function unsent(call, kind, detail, cause) {
  return new DrainmarkError({ ...asked(call), kind, detail, nothingDone: true, attempts: 0, cause });
}
function failed(call, detail, cause, more = {}) {
  return new DrainmarkError({ ...asked(call), kind: "connection", detail, cause, retryable: true, ...more });
}
function misunderstood(call, answer, detail) {
  const { status, headers } = answer;
  return new DrainmarkError({
    ...asked(call),
    kind: "protocol",
    detail,
    status,
    receipt: headers.get("Drainmark-Receipt") ?? ""
  });
}
var prefix = "urn:drainmark:problem:";
function refused(call, answer) {
  const { status, headers } = answer;
  const problem = problemOf(answer.body);
  const kind = problemKinds.find((known) => prefix + known === problem.type) ?? "other";
  return new DrainmarkError({
    ...asked(call),
    kind,
    status,
    title: problem.title,
    detail: problem.detail || problem.title || `status ${status}`,
    receipt: problem.receipt || (headers.get("Drainmark-Receipt") ?? ""),
    retryAfter: retryAfterOf(headers.get("Retry-After") ?? ""),
    nothingDone: provesNothingDone(status, kind),
    retryable: mayPass(status, kind)
  });
}
function problemOf(body) {
  const found = { type: "", title: "", detail: "", receipt: "" };
  try {
    const problem = JSON.parse(body);
    if (!String(problem.type).startsWith(prefix)) return found;
    for (const name of ["type", "title", "detail", "receipt"]) found[name] = String(problem[name] ?? "");
  } catch {
  }
  return found;
}
function provesNothingDone(status, kind) {
  if (status === 503) return ["unavailable", "backlog-full", "disk-full", "too-many"].includes(kind);
  if (status === 408) return kind === "unavailable";
  return status >= 400 && status < 500 && status !== 499;
}
function mayPass(status, kind) {
  if (status === 408 || status === 429) return true;
  return status >= 500 && status !== 501 && status !== 505 && kind !== "misconfigured";
}
var aDay = 24 * 36e5;
function retryAfterOf(text) {
  if (/^\d+$/.test(text)) return Math.min(1e3 * Number(text), aDay);
  const date = Date.parse(text);
  return Number.isNaN(date) ? 0 : Math.min(Math.max(date - Date.now(), 0), aDay);
}
function neverSent(error) {
  const cause = error?.cause;
  if (cause === null || typeof cause !== "object") return false;
  const all = Array.isArray(cause.errors) ? cause.errors : [cause];
  return all.length > 0 && all.every(isOfConnecting);
}
function isOfConnecting({ code, syscall }) {
  if (syscall === "connect" || syscall === "getaddrinfo" || code === "UND_ERR_CONNECT_TIMEOUT") return true;
  return typeof code === "string" && /^(CERT_|ERR_TLS_CERT|UNABLE_TO_|(DEPTH_ZERO_)?SELF_SIGNED_)/.test(code);
}

// src/message.ts
var Unsendable = class extends Error {
};
var encoder = new TextEncoder();
function outgoing(message) {
  const full = typeof message === "string" || message instanceof Uint8Array ? { body: message } : message;
  const { body, key = "", headers = {} } = full;
  if (typeof body !== "string" && !(body instanceof Uint8Array)) throw new Unsendable("a body must be a string or a Uint8Array");
  const type = typeof body === "string" ? "text/plain; charset=utf-8" : "application/octet-stream";
  const contentType = full.contentType || type;
  if (!isPrintable(contentType)) throw new Unsendable(`the content type ${shown(contentType)} must be printable ASCII`);
  if (!isPrintable(key)) throw new Unsendable(`the key ${shown(key)} must be printable ASCII`);
  for (const [name, value] of Object.entries(headers)) {
    if (!name.isWellFormed() || !value.isWellFormed())
      throw new Unsendable(`header ${shown(name)}: half of a surrogate pair is no text`);
  }
  return { body: typeof body === "string" ? encoded(body) : new Uint8Array(body), contentType, key, headers: { ...headers } };
}
function encoded(text) {
  if (!text.isWellFormed()) throw new Unsendable("the body has half of a surrogate pair, which is no text");
  return encoder.encode(text);
}
var isPrintable = (text) => /^[ -~]*$/.test(text);
var shown = (text) => JSON.stringify(text.slice(0, 40));
var strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
function lineOf({ body, contentType, key, headers }) {
  const line = { content_type: contentType };
  try {
    line.body = strict.decode(body);
  } catch {
    line.body_base64 = toBase64(body);
  }
  if (key !== "") line.key = key;
  if (Object.keys(headers).length > 0) line.headers = headers;
  return `${JSON.stringify(line)}
`;
}
var piece = 32768;
function toBase64(bytes) {
  const parts = [];
  for (let i = 0; i < bytes.length; i += piece) parts.push(String.fromCharCode(...bytes.subarray(i, i + piece)));
  return btoa(parts.join(""));
}
function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
function messageOf(shown2) {
  const { position, id, body, body_base64, content_type, accepted_at, persisted_at } = shown2;
  const words = [id, content_type, accepted_at, persisted_at];
  if (!isPosition(position) || position === 0 || !words.every((word) => typeof word === "string")) {
    throw new Error(`no message: position ${position}, id ${id}`);
  }
  return {
    position,
    id,
    ...contentOf(body, body_base64),
    contentType: content_type,
    headers: shown2.headers ?? {},
    acceptedAt: accepted_at,
    persistedAt: persisted_at,
    erased: shown2.erased === true
  };
}
function contentOf(body, base64) {
  if (typeof body === "string") return { bytes: encoder.encode(body), text: body };
  if (typeof base64 === "string") return { bytes: fromBase64(base64), text: null };
  throw new Error("a message without a body");
}
function isPosition(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

// src/json.ts
function parseObject(text) {
  const value = JSON.parse(text, (_, part) => {
    if (Number.isInteger(part) && !Number.isSafeInteger(part)) throw new Error(`the number ${part} is over 2^53 - 1`);
    return part;
  });
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("not an object");
  return value;
}
function camel(value) {
  if (Array.isArray(value)) return value.map(camel);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, part]) => [camelName(name), name === "headers" ? part : camel(part)])
  );
}
var camelName = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
function letterOf({ body, body_base64, ...rest }) {
  const kept = body !== void 0 || body_base64 !== void 0;
  return { ...camel(rest), ...kept ? contentOf(body, body_base64) : { bytes: null, text: null } };
}

// src/retry.ts
var Patience = class {
  attempts;
  elapsed;
  least;
  most;
  constructor(retry) {
    const { attempts, elapsed, least = 20, most } = retry || { attempts: 1 };
    this.attempts = attempts ?? Infinity;
    this.elapsed = elapsed ?? (attempts === void 0 ? 3e4 : Infinity);
    this.least = least;
    this.most = most ?? Math.max(2e3, least);
    if (!(this.attempts >= 1 && this.elapsed >= 0 && this.least >= 0 && this.most >= this.least)) {
      throw new TypeError("retry: attempts must be at least 1, no time negative, and most no less than least");
    }
  }
  /** Whether calls are made again at all. */
  get on() {
    return this.attempts > 1;
  }
  /** Whether there may be another request after so many, after a pause. */
  allows(attempts, elapsed, pause2) {
    return attempts < this.attempts && elapsed + pause2 <= this.elapsed;
  }
  pace() {
    return new Pace(this.least, this.most);
  }
};
var Pace = class {
  #least;
  #step = 0;
  most;
  constructor(least, most) {
    this.#least = least;
    this.most = most;
  }
  /** The next pause in ms, which is at least as long as the server has asked for. */
  next(atLeast = 0) {
    this.#step = Math.min(Math.max(2 * this.#step, this.#least), Math.max(this.most, this.#least));
    return Math.max(this.#step / 2, atLeast) + Math.random() * this.#step / 2;
  }
  /** Begins again with the shortest pause: something has worked. */
  reset() {
    this.#step = 0;
  }
};
var longest = 2 ** 31 - 1;
function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, Math.min(ms, longest));
    signal?.addEventListener("abort", end);
  });
}
var Limit = class {
  #control = new AbortController();
  #outer;
  #timer;
  /** Why it was ended, if its time was over. */
  over = "";
  constructor(outer) {
    this.#outer = outer;
    if (outer?.aborted) this.#end();
    outer?.addEventListener("abort", this.#end);
  }
  #end = () => this.#control.abort(this.#outer?.reason);
  get signal() {
    return this.#control.signal;
  }
  start(ms, over) {
    this.stop();
    this.#timer = setTimeout(
      () => {
        this.over = over;
        this.#control.abort(new DOMException(over, "TimeoutError"));
      },
      Math.min(ms, longest)
    );
  }
  stop() {
    clearTimeout(this.#timer);
  }
  /** Ends whatever is still under way, and leaves nothing behind. */
  close() {
    this.stop();
    this.#outer?.removeEventListener("abort", this.#end);
    this.#control.abort();
  }
};

// src/call.ts
var mostAnswer = 64 << 20;
var mostRefusal = 64 << 10;
var Caller = class {
  patience;
  timeout;
  silence;
  #base;
  // without a slash at its end
  #basic;
  // of a user and password in the URL, "" without
  #token;
  #fetch;
  constructor({ url, token = "", retry = {}, timeout = 3e4, silence = 45e3, fetch: own }) {
    const base = parseURL(url);
    this.#basic = basicOf(base);
    base.username = base.password = "";
    this.#base = base.href.replace(/\/+$/, "");
    if (!(timeout > 0 && silence > 0)) throw new TypeError("timeout and silence must be more than 0 ms");
    this.patience = new Patience(retry);
    this.timeout = timeout;
    this.silence = silence;
    this.#token = typeof token === "string" ? () => token : token;
    this.#fetch = own ?? ((...question) => fetch(...question));
  }
  /** Makes a call and reads the object that is answered. */
  async ask(call) {
    const answer = await this.do(call);
    return { answer, said: this.read(call, answer) };
  }
  /** Reads an answer's object. */
  read(call, answer) {
    try {
      return parseObject(answer.body);
    } catch (error) {
      throw misunderstood(
        call,
        answer,
        `${answer.body.length} characters that make no sense: ${error.message.slice(0, 100)}`
      );
    }
  }
  /** Makes a call, again and again as Retry says. Its error says of all attempts together whether nothing was done. */
  async do(call) {
    const began = performance.now();
    const pace = this.patience.pace();
    let nothingDone = true;
    let receipt = "";
    for (let attempt = 1; ; attempt++) {
      const result = await this.#attempt(call);
      if (!(result instanceof DrainmarkError)) return result;
      nothingDone &&= result.nothingDone;
      receipt = result.receipt || receipt;
      const error = result.with({ nothingDone, receipt, attempts: attempt - 1 + result.attempts });
      if (!error.retryable || !nothingDone && !call.repeatable) throw error;
      const next2 = pace.next(error.retryAfter);
      if (!this.patience.allows(attempt, performance.now() - began, next2)) throw error;
      await pause(next2, call.signal);
      if (call.signal?.aborted) throw ended(error, call.signal);
    }
  }
  // attempt makes one request and reads its whole answer. It does not throw.
  async #attempt(call) {
    const limit = new Limit(call.signal);
    const time = (call.timeout ?? this.timeout) + (call.wait ?? 0);
    try {
      const response = await this.open(call, limit, time);
      return await this.#readWhole(call, response);
    } catch (error) {
      return this.failure(call, limit, error);
    } finally {
      limit.close();
    }
  }
  /** The error of a request that failed with any error. */
  failure(call, limit, error, detail = "no connection") {
    if (call.signal?.aborted) return ended(error instanceof DrainmarkError ? error : failed(call, detail, error), call.signal);
    if (error instanceof DrainmarkError) {
      return limit.over !== "" && error.kind === "connection" ? error.with({ detail: limit.over }) : error;
    }
    if (limit.over !== "") return failed(call, limit.over, limit.signal.reason);
    return failed(call, detail, error, { nothingDone: neverSent(error) });
  }
  /** Makes one request. If its token is refused and another one has taken its place meanwhile, it makes another. */
  async open(call, limit, time) {
    const token = await this.#tokenFor("", call);
    const response = await this.#send(call, limit, time, token);
    if (token === "" || !refusesToken(response)) return response;
    const next2 = await this.#tokenFor(token, call).catch(() => token);
    if (next2 === token) return response;
    await response.body?.cancel();
    return this.#send(call, limit, time, next2);
  }
  // tokenFor asks for the token, in place of one that was refused. The time that this takes is not the request's.
  async #tokenFor(refused2, call) {
    let token = "";
    try {
      token = await beforeEnd(this.#token(refused2), call.signal);
    } catch (error) {
      throw call.signal?.aborted ? unsent(call, "aborted", "given up", call.signal.reason) : unsent(call, "unauthenticated", "there is no token", error);
    }
    if (!isPrintable(token))
      throw unsent(call, "unauthenticated", `the token of ${token.length} characters must be printable ASCII`);
    return token;
  }
  async #send(call, limit, time, token) {
    if (call.signal?.aborted) throw unsent(call, "aborted", "given up", call.signal.reason);
    const headers = headersOf(call);
    if (token !== "") headers.set("Authorization", `Bearer ${token}`);
    else if (this.#basic !== "") headers.set("Authorization", this.#basic);
    limit.start(time, `no answer in time: the limit is ${time} ms`);
    const ask = this.#fetch;
    const asking = ask(this.#base + call.path, {
      method: call.method,
      headers,
      body: call.body ?? null,
      signal: limit.signal,
      redirect: "manual",
      // one that leads somewhere else would be another request
      cache: "no-store"
    });
    return await beforeEnd(asking, limit.signal);
  }
  async #readWhole(call, response) {
    const { status, headers } = response;
    const answer = { status, headers, body: "" };
    try {
      answer.body = await readText(response, status < 400 ? mostAnswer : mostRefusal);
    } catch (error) {
      const receipt = headers.get("Drainmark-Receipt") ?? "";
      throw failed(call, "the answer broke off", error, { status, receipt });
    }
    if (status >= 400) throw refused(call, answer);
    if (status === 0 || status >= 300 && (status !== 304 || call.ifNoneMatch === void 0)) {
      throw misunderstood(call, answer, "a redirection, which is not followed");
    }
    return answer;
  }
  /** The error of an answer that is not an event stream. */
  async noStream(call, response) {
    const { status, headers } = response;
    const body = await readText(response, mostRefusal).catch(() => "");
    return status >= 400 ? refused(call, { status, headers, body }) : misunderstood(call, response, "not an event stream");
  }
};
function ended(error, signal) {
  if (error.kind === "aborted") return error;
  return error.with({ kind: "aborted", detail: `given up: ${error.detail}`, retryable: false, cause: signal.reason });
}
function parseURL(url) {
  const page = globalThis.document?.baseURI;
  let made = null;
  try {
    made = new URL(url, page);
  } catch {
  }
  if (made === null || !/^https?:$/.test(made.protocol)) throw new TypeError("the url must be one of http or https");
  if (made.search !== "" || made.hash !== "") throw new TypeError("the url must have no query and no fragment");
  return made;
}
function basicOf({ username, password }) {
  if (username === "" && password === "") return "";
  const bytes = new TextEncoder().encode(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`);
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}
function refusesToken({ status, headers }) {
  return status === 401 || status === 429 && headers.has("WWW-Authenticate");
}
function headersOf(call) {
  const headers = new Headers();
  const values = {
    "Content-Type": call.contentType,
    "Idempotency-Key": call.key,
    "Drainmark-Receipt": call.receipts,
    "If-None-Match": call.ifNoneMatch,
    "Last-Event-ID": call.lastEventId,
    Accept: call.events ? "text/event-stream" : void 0,
    Prefer: call.wait ? `wait=${Math.ceil(call.wait / 1e3)}` : void 0
    // the API knows whole seconds only
  };
  for (const [name, value] of Object.entries(values)) {
    if (!value) continue;
    if (!isPrintable(value)) throw unsent(call, "invalid", `${name} must be printable ASCII`);
    headers.set(name, value);
  }
  return headers;
}
function beforeEnd(value, signal) {
  return new Promise((resolve, reject) => {
    const end = () => reject(signal?.reason);
    if (signal?.aborted) end();
    else signal?.addEventListener("abort", end);
    Promise.resolve(value).then(resolve, reject).finally(() => signal?.removeEventListener("abort", end));
  });
}
async function readText(response, most) {
  const reader = response.body?.getReader();
  if (!reader) return "";
  const decoder = new TextDecoder();
  const parts = [];
  for (let size = 0; ; ) {
    const { value, done } = await reader.read();
    if (done) return parts.join("") + decoder.decode();
    size += value.length;
    if (size > most) {
      await reader.cancel();
      throw new RangeError(`the answer has more than ${most} bytes, the limit`);
    }
    parts.push(decoder.decode(value, { stream: true }));
  }
}

// src/pages.ts
function pageOf(log, said, { headers }, wrong) {
  const { last_position: lastPosition, count, messages } = said;
  if (said.log !== log || !isPosition(lastPosition) || !isPosition(count) || count > lastPosition || !Array.isArray(messages)) {
    throw wrong(`a page of the log ${said.log}, ${count} messages up to ${lastPosition}`);
  }
  try {
    return {
      messages: messages.map(messageOf),
      lastPosition,
      count,
      firstPosition: isPosition(said.first_position) ? said.first_position : lastPosition - count + 1,
      etag: headers.get("ETag") ?? "",
      backend: headers.get("Drainmark-Backend") ?? ""
    };
  } catch (error) {
    throw wrong(`a message that makes no sense: ${error.message.slice(0, 100)}`);
  }
}
var clearedThrough = ({ lastPosition, count }) => lastPosition - count;
var reading = { method: "reading", path: "the log's pages" };
function check(page, after) {
  let last = Math.max(after, clearedThrough(page));
  const wrong = (detail) => unsent(reading, "positions", detail);
  for (const { position } of page.messages) {
    if (position !== last + 1) throw wrong(`a page goes on from ${last} with ${position}`);
    last = position;
  }
  if (page.messages.length === 0 && page.lastPosition > last) {
    throw wrong(`a page behind ${last} is empty, and the last position is ${page.lastPosition}`);
  }
}
var stalePatience = 3e4;
async function* allOf(read2, pace, { after = 0, signal }) {
  let newest = 0;
  let staleSince = null;
  for (; ; ) {
    const page = await read2(after).catch((error) => unlessStale(error, newest));
    if (page === null || page.lastPosition < newest) {
      staleSince ??= performance.now();
      if (performance.now() - staleSince > stalePatience) {
        throw failed(reading, `the pages are older than what was read before, for ${stalePatience} ms, the limit`, void 0);
      }
      await pause(pace.next(), signal);
      continue;
    }
    check(page, after);
    [newest, staleSince] = [page.lastPosition, null];
    pace.reset();
    for (const message of page.messages) {
      yield message;
      after = message.position;
    }
    if (Math.max(after, clearedThrough(page)) >= newest) return;
  }
}
function unlessStale(error, newest) {
  if (error instanceof DrainmarkError && error.kind === "not-found" && newest > 0) return null;
  throw error;
}

// src/receipts.ts
var isSettled = ({ state }) => state === "persisted" || state === "rejected" || state === "reached";
function merge(...receipts) {
  return receipts.filter((receipt) => receipt !== "").join(",");
}
function* idsOf({ id, marks = [] }) {
  if (id !== void 0) return yield id;
  for (const run of marks) {
    const parts = /^(.*-)(\d+)(?:\.\.(\d+))?$/.exec(run);
    if (!parts) continue;
    const [, producer, first = "", last = first] = parts;
    for (let i = BigInt(first); i <= BigInt(last); i++) yield `${producer}${i}`;
  }
}

// src/events.ts
var EventReader = class {
  #reader;
  #decoder = new TextDecoder();
  #limit;
  // characters of one event
  #part = [];
  // of a line that has no end yet
  #size = 0;
  // of the event that has no end yet
  #event = newEvent();
  constructor(body, limit) {
    this.#reader = body.getReader();
    this.#limit = limit;
  }
  /** The next piece, which may have no event: it is a sign of life. null is the end. An event cut off by it is none. */
  async next() {
    const { value, done } = await this.#reader.read();
    if (done) return null;
    const piece2 = { events: [], id: null, retry: null };
    const lines = this.#decoder.decode(value, { stream: true }).split("\n");
    this.#grow(lines[0]);
    for (const [i, text] of lines.entries()) {
      if (i > 0) this.#grow(text);
      if (i === lines.length - 1) break;
      const line = this.#part.join("");
      this.#part = [];
      this.#take(line.endsWith("\r") ? line.slice(0, -1) : line, piece2);
    }
    return piece2;
  }
  #grow(text) {
    this.#size += text.length;
    if (this.#size > this.#limit) throw new RangeError(`an event of more than ${this.#limit} characters, the limit`);
    this.#part.push(text);
  }
  #take(line, piece2) {
    if (line === "") {
      const { name, id, data } = this.#event;
      if (id !== "") piece2.id = id;
      if (data.length > 0) piece2.events.push({ name, id, data: data.join("\n") });
      this.#event = newEvent();
      this.#size = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#event.data.push(value);
    else if (field === "event") this.#event.name = value || "message";
    else if (field === "id") this.#event.id = value;
    else if (field === "retry" && /^\d{1,5}$/.test(value)) piece2.retry = Number(value);
  }
};
var newEvent = () => ({ name: "message", id: "", data: [] });

// src/tail.ts
var mostEvent = 64 << 20;
async function* stream(caller, path, { after, signal, timeout }) {
  const call = { method: "GET", path, events: true, signal, ...after !== void 0 && { lastEventId: String(after) } };
  const limit = new Limit(signal);
  let retryAfter = 0;
  let status = 0;
  let position = after ?? null;
  try {
    const response = await caller.open(call, limit, timeout ?? caller.timeout);
    if (response.status !== 200 || !response.body) throw await caller.noStream(call, response);
    const type = response.headers.get("Content-Type") ?? "";
    if (!type.startsWith("text/event-stream"))
      throw misunderstood(call, response, `an event stream of the type ${type.slice(0, 80)}`);
    status = 200;
    const events = new EventReader(response.body, mostEvent);
    for (; ; ) {
      limit.start(caller.silence, `nothing came for ${caller.silence} ms, the limit`);
      const piece2 = await next(events, call, response);
      limit.stop();
      if (piece2 === null) throw failed(call, "the event stream has ended", void 0);
      retryAfter = piece2.retry ?? retryAfter;
      const messages = piece2.events.filter(({ name }) => name === "message").map((event) => read(event, call, response));
      position = piece2.id === null ? messages.at(-1)?.position ?? position : idOf(piece2.id, call, response);
      yield { messages, position };
    }
  } catch (error) {
    const failure = caller.failure(call, limit, error, "the event stream broke off");
    throw failure.with({ status: failure.status || status, retryAfter: failure.retryAfter || retryAfter });
  } finally {
    limit.close();
  }
}
async function next(events, call, response) {
  try {
    return await events.next();
  } catch (error) {
    throw error instanceof RangeError ? misunderstood(call, response, error.message) : error;
  }
}
function read({ id, data }, call, response) {
  try {
    const message = messageOf(parseObject(data));
    if (id !== "" && id !== String(message.position)) throw new Error(`position ${message.position}`);
    return message;
  } catch (error) {
    throw misunderstood(call, response, `the event ${id.slice(0, 20)} makes no sense: ${error.message.slice(0, 100)}`);
  }
}
function idOf(id, call, response) {
  const position = Number(id);
  if (!isPosition(position)) throw misunderstood(call, response, `an event with the id ${id.slice(0, 20)}`);
  return position;
}
async function* tail(caller, path, options, probe) {
  const { signal } = options;
  const pace = caller.patience.pace();
  let last = options.after ?? null;
  while (!signal?.aborted) {
    const before = last;
    let begun = false;
    try {
      for await (const { messages, position } of stream(caller, path, { ...options, after: last ?? void 0 })) {
        for (const message of messages) {
          if (last !== null && message.position !== last + 1) await checkSkip(path, last, message.position, probe);
          last = message.position;
          yield message;
          if (signal?.aborted) return;
        }
        if (position !== null && (last === null || begun && position > last)) last = position;
        begun = true;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (!(error instanceof DrainmarkError) || !error.retryable) throw error;
      if (last !== before && before !== null) pace.reset();
      const opened = error.status === 200;
      if (opened && error.retryAfter > 0) pace.most = error.retryAfter;
      await pause(pace.next(opened ? 0 : error.retryAfter), signal);
    }
  }
}
async function checkSkip(path, last, position, probe) {
  const call = { method: "GET", path };
  const wrong = (detail) => unsent(call, "positions", `the log goes on from ${last} with ${position}${detail}`);
  if (position <= last) throw wrong("");
  const log = await probe(position);
  if (log === null || log.lastPosition < position) throw failed(call, "a state that is older than what has come", void 0);
  const cleared = log.lastPosition - log.count;
  if (cleared < position - 1) throw wrong(`, and has been cleared through ${cleared}`);
}

// src/client.ts
var step = 5e3;
var Client = class {
  #caller;
  /** Connects to nothing yet. It throws a TypeError for a configuration that cannot be. */
  constructor(config) {
    this.#caller = new Caller(config);
  }
  /**
   * Appends a message to a log, creating the log if needed. When it returns, the message is on the durable queue: the state is
   * accepted, or after a wait persisted if it is in the database by then. If it turns out within the wait that it can
   * never be, it fails with the kind "rejected".
   *
   * If calls are made again (Config.retry), a message without a key gets a random one, so that it is appended once however
   * often it is sent. With `retry: false` it gets none.
   *
   * If it fails, `nothingDone` says whether the message certainly is not in the log. If that is false, the error's receipt,
   * if it has one, tells later. Otherwise append the message again with the same key, which it must have had before.
   */
  async append(log, message, options = {}) {
    const call = this.#writing("POST", `${logPath(log)}/messages`, options);
    const { key, ...one } = this.#outgoing(call, message);
    const keyed = key || (this.#caller.patience.on ? newKey() : "");
    if (meansMore(one.contentType) || Object.keys(one.headers).length > 0) {
      const { marks = [], ...status } = await this.#append(
        { ...call, ...manyOf([{ ...one, key: keyed }]), repeatable: keyed !== "" },
        1
      );
      const [id] = idsOf({ ...status, marks });
      return { ...status, ...id !== void 0 && { id } };
    }
    return this.#append({ ...call, body: one.body, contentType: one.contentType, ...withKey(keyed) }, 1);
  }
  /**
   * Appends messages in their order, with one request and one receipt. Others' messages can stand between them only if there
   * are more than 1,000, or megabytes. The API takes up to 10,000 messages and 8 MiB at once unless it was told otherwise.
   * Keys, errors and the wait are as with `append`, but a request that failed without certainty may have left any number of
   * the first messages in the log.
   */
  async appendMany(log, messages, { key = "", ...options } = {}) {
    const call = this.#writing("POST", `${logPath(log)}/messages`, options);
    const all = Array.from(messages, (message) => this.#outgoing(call, message));
    if (all.length === 0) throw unsent(call, "invalid", "no messages to append");
    const keyed = all.every((message) => message.key !== "");
    const made = key || (this.#caller.patience.on && !keyed ? newKey() : "");
    return this.#append({ ...call, ...manyOf(all), repeatable: keyed, ...withKey(made) }, all.length);
  }
  /**
   * Removes the messages of a log that were accepted before it. Positions go on behind them. The state is accepted, or
   * after a wait persisted once it is done. It is made again only if it was certainly not done: a second one would take
   * with it what was appended in between.
   */
  async clear(log, options = {}) {
    return this.#status(this.#writing("DELETE", `${logPath(log)}/messages`, options));
  }
  /** Removes the messages of a log up to a position, or all if it is shorter. Otherwise it is as `clear`. */
  async trim(log, through, options = {}) {
    const call = this.#writing("POST", `${logPath(log)}/trim?through=${through}`, options);
    return this.#status(withPosition(call, "through", through));
  }
  /**
   * Erases the message at a position: that, its id and times stay, and what it held is gone. Nothing happens if there is no
   * such message. Otherwise it is as `clear`.
   */
  async erase(log, position, options = {}) {
    const call = this.#writing("DELETE", `${logPath(log)}/messages/${position}`, options);
    return this.#status(withPosition(call, "position", position));
  }
  /**
   * Deletes a log: it is not found and in no list until something is written to it again, and positions go on then. Otherwise
   * it is as `clear`.
   */
  async delete(log, options = {}) {
    return this.#status(this.#writing("DELETE", logPath(log), options));
  }
  /**
   * Reads a page of a log. It may have fewer messages than the limit although there are more. A log that nobody has
   * written to is "not-found". "not-reached" is not asked for again: it is an answer.
   */
  async messages(log, options = {}) {
    const { after = 0, limit, receipts, known } = options;
    const path = withQuery(`${logPath(log)}/messages`, { after: String(after), ...limit && { limit: String(limit) } });
    const call = withPosition({ ...this.#reading(path, options), receipts, ifNoneMatch: known?.etag }, "after", after);
    const answer = await this.#caller.do(call);
    if (answer.status === 304 && known) return known;
    return pageOf(log, this.#caller.read(call, answer), answer, (detail) => misunderstood(call, answer, detail));
  }
  /**
   * Reads a log page by page, from `after` to what is its end then. If a message is missing that was not cleared, it fails
   * with the kind "positions". If a replica answers that is older than the one before, it asks again.
   */
  all(log, options = {}) {
    return allOf((after) => this.messages(log, { ...options, after }), this.#caller.patience.pace(), options);
  }
  /**
   * Follows a log, until its signal is aborted, which ends it without an error, or nobody takes any more. First comes what
   * is behind the position, then each message as soon as it is persisted. The log need not exist yet.
   *
   * When its connection breaks, or is silent for long, it opens another one where it was, whatever Config.retry says, and
   * waits longer each time that brings nothing. So it gives each message once and in order. If positions are left out it
   * asks whether they were cleared. If not, or if they go back, it fails with the kind "positions". Otherwise it fails
   * only with answers that will stay the same. Messages come only as fast as they are taken.
   */
  async *tail(log, options = {}) {
    const probe = async (position) => {
      const { signal, timeout } = options;
      try {
        return await this.messages(log, { after: position - 1, limit: 1, signal, timeout });
      } catch (error) {
        if (error instanceof DrainmarkError && error.kind === "not-found") return null;
        throw error;
      }
    };
    yield* tail(this.#caller, this.#eventsPath(log, options), options, probe);
  }
  /**
   * Opens one event stream and gives what comes, signs of life too, for those who come back by themselves: see `tail`. It
   * ends with an error, of which `retryAfter` says how long the server asks to wait. Nothing is checked of its positions.
   */
  async *stream(log, options = {}) {
    return yield* stream(this.#caller, this.#eventsPath(log, options), options);
  }
  /** The logs, in order of their names. */
  async *logs(options = {}) {
    for (let path = "/v1/logs"; ; ) {
      const { answer, said } = await this.#caller.ask(this.#reading(path, options));
      const logs = camel(said.logs ?? []);
      yield* logs;
      const last = logs.at(-1);
      if (!last || !answer.headers.get("Link")?.includes('rel="next"')) return;
      path = withQuery("/v1/logs", { after: last.name });
    }
  }
  /**
   * Asks what became of a receipt's writes. It waits for at most `wait` until they are persisted or rejected. With a
   * log, it also says where the messages stand in it, once they are persisted: those that are among its newest 1,000, of a
   * receipt of at most 100 records.
   */
  async status(receipt, { log, ...options } = {}) {
    return this.#status(this.#reading(withQuery(`/v1/receipts/${segment(receipt, "receipt")}`, log ? { log } : {}), options));
  }
  /** Asks until a receipt's writes are persisted or rejected, and returns which. */
  async wait(receipt, options = {}) {
    return this.#await((wait) => this.status(receipt, { ...options, wait }), options);
  }
  /**
   * Asks whether everything is persisted that was accepted before it, by whomever: in the named logs, or in all. It waits for
   * at most `wait` until it is: the state is reached, or else pending, or stalled with a reason. With the receipt of an
   * earlier answer it asks the same question again.
   */
  async barrier(options = {}) {
    const { logs = [], receipt } = options;
    const query = receipt ? [["receipt", receipt]] : logs.map((log) => ["log", log]);
    return this.#status({ ...this.#reading(withQuery("/v1/barriers", query), options), method: "POST" });
  }
  /** Returns when a barrier is reached, for the named logs or for all. */
  async waitBarrier({ logs, ...options } = {}) {
    let receipt;
    const ask = async (wait) => {
      const status = await this.barrier({ ...options, logs, receipt, wait });
      receipt = status.receipt;
      return status;
    };
    return this.#await(ask, options);
  }
  /** What is accepted and not yet persisted. To know that everything is persisted, use `waitBarrier`. */
  async backlog(options = {}) {
    const call = this.#reading("/v1/backlog", options);
    const { answer, said } = await this.#caller.ask(call);
    if (!Array.isArray(said.partitions) || said.partitions.length === 0)
      throw misunderstood(call, answer, "a backlog without partitions");
    return camel(said);
  }
  /**
   * Whether an append would be accepted now, whether anything can be read, and whether what is accepted gets persisted. It
   * returns whenever a backend has answered, also when nothing works.
   */
  async working(options = {}) {
    const call = this.#reading("/v1/status", options);
    const { answer, said } = await this.#caller.ask(call);
    if (!said.appends || !said.reads) throw misunderstood(call, answer, "it does not say what works");
    return { ...camel(said), backend: backendOf(answer) };
  }
  /** How many consumers are wanted now, as an autoscaler asks. */
  async consumers(options = {}) {
    const call = this.#reading("/v1/consumers", options);
    const { answer, said } = await this.#caller.ask(call);
    if (!isPosition(said.wanted)) throw misunderstood(call, answer, "no number of consumers");
    return camel(said);
  }
  /** The open dead letters that are meant. */
  async *deadLetters(options = {}) {
    for (let after; ; ) {
      const { letters, next: next2 } = await this.deadLettersPage({ ...options, after });
      yield* letters;
      if (next2 === null) return;
      after = next2;
    }
  }
  /** A part of the open dead letters that are meant. `next` is the `after` of the next one, null at the end. */
  async deadLettersPage(options = {}) {
    const { after, limit, body = true } = options;
    const place = { ...limit && { limit: String(limit) }, ...after && { after }, ...!body && { body: "false" } };
    const call = this.#reading(withQuery("/v1/dead-letters", { ...place, ...filterQuery(options) }), options);
    const { answer, said } = await this.#caller.ask(call);
    try {
      const letters = said.dead_letters.map(letterOf);
      return { letters, next: said.next || null };
    } catch (error) {
      throw misunderstood(call, answer, `dead letters that make no sense: ${error.message.slice(0, 100)}`);
    }
  }
  /**
   * Counts the dead letters that `retryDeadLetters` and `discardDeadLetters` would settle. Something of the filter must be
   * set. A `before` of now means all. Missing records are not among them.
   */
  async countDeadLetters(filter, options = {}) {
    const path = withQuery("/v1/dead-letters", { ...filterQuery(filter), dry_run: "true" });
    const { said } = await this.#caller.ask({ ...this.#reading(path, options), method: "DELETE" });
    return { ...camel(said), refused: 0 };
  }
  /**
   * Has all dead letters tried again that are meant. It goes on from request to request. Each waits for a while until its
   * retries are done, so that other writes come through. It returns how many it has had accepted, and how many are known
   * to have been refused again.
   */
  retryDeadLetters(filter, options = {}) {
    return this.#settle("POST", filter, options);
  }
  /** Gives all dead letters up that are meant, as `retryDeadLetters` has them tried again. */
  discardDeadLetters(filter, options = {}) {
    return this.#settle("DELETE", filter, options);
  }
  /**
   * Has a dead letter tried again. The state is accepted, or after a wait persisted once its record is. If the record was
   * refused again, the state is rejected, which is no error. The letter stays, with the new reason. It fails with
   * "not-found" if there is no such open dead letter, and is made again only if it was certainly not done.
   */
  async retryDeadLetter(id, options = {}) {
    return this.#status(this.#writing("POST", `${letterPath(id)}/retry`, options));
  }
  /**
   * Gives a dead letter up. Its receipts are still said to be rejected, with the reason. States and errors are as with
   * `retryDeadLetter`.
   */
  async discardDeadLetter(id, options = {}) {
    return this.#status(this.#writing("DELETE", letterPath(id), options));
  }
  #writing(method, path, { signal, timeout, wait }) {
    return { method, path, signal, timeout, wait };
  }
  // reading is a call that does no harm however often it is made.
  #reading(path, options) {
    return { ...this.#writing("GET", path, options), repeatable: true };
  }
  #eventsPath(log, { after }) {
    const path = `${logPath(log)}/events`;
    if (after !== void 0) withPosition({ method: "GET", path }, "after", after);
    return path;
  }
  #outgoing(call, message) {
    try {
      return outgoing(message);
    } catch (error) {
      throw unsent(call, "invalid", error.message, error);
    }
  }
  async #append(call, count) {
    const { status, answer } = await this.#statusAnd(call);
    if (status.count !== count) throw misunderstood(call, answer, `${count} messages were sent and ${status.count} accepted`);
    if (status.state !== "rejected") return status;
    throw new DrainmarkError({
      kind: "rejected",
      detail: status.reason ?? "it does not say why",
      method: call.method,
      path: call.path,
      status: answer.status,
      title: count === 1 ? "The message is rejected" : "Messages are rejected",
      receipt: status.receipt,
      rejected: status
    });
  }
  async #status(call) {
    return (await this.#statusAnd(call)).status;
  }
  // statusAnd makes a call that is answered with a Status.
  async #statusAnd(call) {
    const { answer, said } = await this.#caller.ask(call);
    const status = { ...camel(said), backend: backendOf(answer) };
    if (!status.receipt || !status.state) throw misunderstood(call, answer, "there is no receipt, or no state");
    return { status, answer };
  }
  // await asks until the status is settled. A server that answers before the wait is over, because it stops for instance,
  // is not asked again at once.
  async #await(ask, { signal, onStatus }) {
    for (const pace = this.#caller.patience.pace(); ; ) {
      const began = performance.now();
      const status = await ask(step);
      onStatus?.(status);
      if (isSettled(status)) return status;
      if (performance.now() - began > step / 2) pace.reset();
      else await pause(pace.next(), signal);
    }
  }
  async #settle(method, filter, { onProgress, ...options }) {
    const all = { deadLetters: 0, records: 0, refused: 0 };
    for (let after = {}; ; ) {
      const path = withQuery("/v1/dead-letters", { ...filterQuery(filter), ...after });
      const call = this.#writing(method, path, { ...options, wait: step });
      const { answer, said } = await this.#caller.ask(call);
      if (said.next !== null && typeof said.next !== "string")
        throw misunderstood(call, answer, "it does not say whether there are more dead letters");
      const part = camel(said);
      all.deadLetters += part.deadLetters;
      all.records += part.records;
      all.refused += part.rejected?.count ?? 0;
      onProgress?.({ ...all });
      if (part.next === null) return all;
      after = { after: part.next };
    }
  }
};
var manyType = "application/x-ndjson";
function meansMore(contentType) {
  return /^\s*application\/((x-)?(ndjson|jsonl|jsonlines|json-lines)\s*(;|$)|cloudevents)/i.test(contentType);
}
function manyOf(messages) {
  return { body: new TextEncoder().encode(messages.map(lineOf).join("")), contentType: manyType };
}
function withKey(key) {
  return key === "" ? {} : { key: `"${key.replace(/[\\"]/g, "\\$&")}"`, repeatable: true };
}
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
var logPath = (log) => `/v1/logs/${segment(log, "log")}`;
var letterPath = (id) => `/v1/dead-letters/${segment(id, "dead letter")}`;
function segment(text, what) {
  if (/^\.{0,2}$/.test(text) || !text.isWellFormed()) {
    throw unsent({ method: "calling", path: "" }, "invalid", `${JSON.stringify(text)} cannot be a ${what}`);
  }
  return encodeURIComponent(text);
}
function withQuery(path, query) {
  const text = new URLSearchParams(query).toString();
  return text === "" ? path : `${path}?${text}`;
}
function withPosition(call, what, position) {
  if (isPosition(position)) return call;
  throw unsent(call, "invalid", `${what} is ${position}: a position is a whole number from 0 to 2^53 - 1`);
}
var backendOf = ({ headers }) => headers.get("Drainmark-Backend") ?? "";
export {
  Client,
  DrainmarkError,
  idsOf,
  merge,
  newKey,
  problemKinds
};
