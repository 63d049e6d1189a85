import { DrainmarkError, failed, misunderstood, neverSent, refused, unsent } from "./errors.js";
import { type JSONObject, parseObject } from "./json.js";
import { isPrintable } from "./message.js";
import { Limit, Patience, pause, type Retry } from "./retry.js";

/** What a Client needs to know. Only `url` must be set. */
export interface Config {
  /**
   * Where the API is, without its /v1: "http://localhost:8080", or with a prefix, "https://example.org/drainmark". A user
   * and password in it are sent as basic authentication. In a browser it may be relative to the page.
   */
  url: string | URL;
  /**
   * The token that each request shows (Authorization: Bearer), or a function that returns it. That is called before each
   * request with "", and again with the token that was refused, if one was: whoever keeps that one should look for
   * another. The request is made again with what it returns then, unless that is the same. "" is none.
   */
  token?: string | ((refused: string) => string | Promise<string>);
  /** How calls that failed are made again, where that does no harm: for 30 s if it is not set, false for not at all. */
  retry?: Retry | false;
  /** How long one request may take in ms, besides the wait that it asks for, 30,000 if not set. Not of event streams. */
  timeout?: number;
  /**
   * After which time without a sign of life an event stream is given up, in ms, 45,000 if not set. The API's are never
   * silent for more than 15 s.
   */
  silence?: number;
  /** Makes the requests in place of the global fetch: for proxies, traces, or certificates of one's own. */
  fetch?: typeof fetch;
}

/** What all calls can be told. */
export interface CallOptions {
  /** Ends the call, which then fails with the kind "aborted". What was sent may be done all the same. */
  signal?: AbortSignal | undefined;
  /** How long one request may take in ms, besides the wait, if not as long as the Client says. */
  timeout?: number | undefined;
}

/** Call is what a request says. It can be made any number of times. */
export interface Call extends CallOptions {
  method: string;
  path: string; // escaped, with its query
  body?: Uint8Array<ArrayBuffer>;
  contentType?: string;
  key?: string; // Idempotency-Key, in quotes
  receipts?: string | undefined;
  ifNoneMatch?: string | undefined; // then 304 is an answer too
  lastEventId?: string;
  events?: boolean; // an event stream is wanted
  wait?: number | undefined; // ms
  repeatable?: boolean; // made twice it does what it does once
}

/** Answer is what was answered, whole: one of 2xx, or of 304 if it was asked for. */
export interface Answer {
  status: number;
  headers: Headers;
  body: string;
}

const mostAnswer = 64 << 20; // bytes: JSON makes 8 MiB of bodies six times that at most
const mostRefusal = 64 << 10; // bytes, of what only says no

/** Caller makes calls, and makes them again where that is safe. */
export class Caller {
  readonly patience: Patience;
  readonly timeout: number;
  readonly silence: number;
  readonly #base: string; // without a slash at its end
  readonly #basic: string; // of a user and password in the URL, "" without
  readonly #token: (refused: string) => string | Promise<string>;
  readonly #fetch: typeof fetch;

  constructor({ url, token = "", retry = {}, timeout = 30_000, silence = 45_000, fetch: own }: Config) {
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
  async ask(call: Call): Promise<{ answer: Answer; said: JSONObject }> {
    const answer = await this.do(call);
    return { answer, said: this.read(call, answer) };
  }

  /** Reads an answer's object. */
  read(call: Call, answer: Answer): JSONObject {
    try {
      return parseObject(answer.body);
    } catch (error) {
      throw misunderstood(
        call,
        answer,
        `${answer.body.length} characters that make no sense: ${(error as Error).message.slice(0, 100)}`,
      );
    }
  }

  /** Makes a call, again and again as Retry says. Its error says of all attempts together whether nothing was done. */
  async do(call: Call): Promise<Answer> {
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
      if (!error.retryable || (!nothingDone && !call.repeatable)) throw error;
      const next = pace.next(error.retryAfter);
      if (!this.patience.allows(attempt, performance.now() - began, next)) throw error;
      await pause(next, call.signal);
      if (call.signal?.aborted) throw ended(error, call.signal);
    }
  }

  // attempt makes one request and reads its whole answer. It does not throw.
  async #attempt(call: Call): Promise<Answer | DrainmarkError> {
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
  failure(call: Call, limit: Limit, error: unknown, detail = "no connection"): DrainmarkError {
    if (call.signal?.aborted) return ended(error instanceof DrainmarkError ? error : failed(call, detail, error), call.signal);
    if (error instanceof DrainmarkError) {
      // An answer that is cut off by its limit does not say so itself.
      return limit.over !== "" && error.kind === "connection" ? error.with({ detail: limit.over }) : error;
    }
    if (limit.over !== "") return failed(call, limit.over, limit.signal.reason);
    return failed(call, detail, error, { nothingDone: neverSent(error) });
  }

  /** Makes one request. If its token is refused and another one has taken its place meanwhile, it makes another. */
  async open(call: Call, limit: Limit, time: number): Promise<Response> {
    const token = await this.#tokenFor("", call);
    const response = await this.#send(call, limit, time, token);
    if (token === "" || !refusesToken(response)) return response;
    const next = await this.#tokenFor(token, call).catch(() => token); // that it was refused says more
    if (next === token) return response;
    await response.body?.cancel();
    return this.#send(call, limit, time, next);
  }

  // tokenFor asks for the token, in place of one that was refused. The time that this takes is not the request's.
  async #tokenFor(refused: string, call: Call): Promise<string> {
    let token = "";
    try {
      token = await beforeEnd(this.#token(refused), call.signal);
    } catch (error) {
      throw call.signal?.aborted
        ? unsent(call, "aborted", "given up", call.signal.reason)
        : unsent(call, "unauthenticated", "there is no token", error);
    }
    if (!isPrintable(token))
      throw unsent(call, "unauthenticated", `the token of ${token.length} characters must be printable ASCII`);
    return token;
  }

  async #send(call: Call, limit: Limit, time: number, token: string): Promise<Response> {
    if (call.signal?.aborted) throw unsent(call, "aborted", "given up", call.signal.reason);
    const headers = headersOf(call);
    if (token !== "") headers.set("Authorization", `Bearer ${token}`);
    else if (this.#basic !== "") headers.set("Authorization", this.#basic);
    limit.start(time, `no answer in time: the limit is ${time} ms`);
    const ask = this.#fetch; // which must not be called as a method of this
    const asking = ask(this.#base + call.path, {
      method: call.method,
      headers,
      body: call.body ?? null,
      signal: limit.signal,
      redirect: "manual", // one that leads somewhere else would be another request
      cache: "no-store",
    });
    return await beforeEnd(asking, limit.signal); // also if somebody's own fetch does not look at the signal
  }

  async #readWhole(call: Call, response: Response): Promise<Answer> {
    const { status, headers } = response;
    const answer = { status, headers, body: "" };
    try {
      answer.body = await readText(response, status < 400 ? mostAnswer : mostRefusal);
    } catch (error) {
      const receipt = headers.get("Drainmark-Receipt") ?? "";
      throw failed(call, "the answer broke off", error, { status, receipt });
    }
    if (status >= 400) throw refused(call, answer);
    if (status === 0 || (status >= 300 && (status !== 304 || call.ifNoneMatch === undefined))) {
      throw misunderstood(call, answer, "a redirection, which is not followed");
    }
    return answer;
  }

  /** The error of an answer that is not an event stream. */
  async noStream(call: Call, response: Response): Promise<DrainmarkError> {
    const { status, headers } = response;
    const body = await readText(response, mostRefusal).catch(() => ""); // the status says enough
    return status >= 400 ? refused(call, { status, headers, body }) : misunderstood(call, response, "not an event stream");
  }
}

// ended is the error of a call that its signal has ended. What was done until then is what the last error says.
function ended(error: DrainmarkError, signal: AbortSignal): DrainmarkError {
  if (error.kind === "aborted") return error;
  return error.with({ kind: "aborted", detail: `given up: ${error.detail}`, retryable: false, cause: signal.reason });
}

// parseURL never shows the URL in its errors, since it may have a password.
function parseURL(url: string | URL): URL {
  const page = (globalThis as { document?: { baseURI?: string } }).document?.baseURI;
  let made: URL | null = null;
  try {
    made = new URL(url, page);
  } catch {
    // it is none
  }
  if (made === null || !/^https?:$/.test(made.protocol)) throw new TypeError("the url must be one of http or https");
  if (made.search !== "" || made.hash !== "") throw new TypeError("the url must have no query and no fragment");
  return made;
}

// basicOf returns what a user and a password in a URL stand for (RFC 7617).
function basicOf({ username, password }: URL): string {
  if (username === "" && password === "") return "";
  const bytes = new TextEncoder().encode(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`);
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

// refusesToken says whether an answer is about the request's token: then nothing was done. It is 429 in place of 401 if
// too many requests with bad tokens came from the same address.
function refusesToken({ status, headers }: Response): boolean {
  return status === 401 || (status === 429 && headers.has("WWW-Authenticate"));
}

function headersOf(call: Call): Headers {
  const headers = new Headers();
  const values = {
    "Content-Type": call.contentType,
    "Idempotency-Key": call.key,
    "Drainmark-Receipt": call.receipts,
    "If-None-Match": call.ifNoneMatch,
    "Last-Event-ID": call.lastEventId,
    Accept: call.events ? "text/event-stream" : undefined,
    Prefer: call.wait ? `wait=${Math.ceil(call.wait / 1000)}` : undefined, // the API knows whole seconds only
  };
  for (const [name, value] of Object.entries(values)) {
    if (!value) continue;
    if (!isPrintable(value)) throw unsent(call, "invalid", `${name} must be printable ASCII`);
    headers.set(name, value);
  }
  return headers;
}

// beforeEnd waits for a value, or until the signal is aborted, whose reason it then throws.
function beforeEnd<T>(value: T | Promise<T>, signal?: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const end = () => reject(signal?.reason);
    if (signal?.aborted) end();
    else signal?.addEventListener("abort", end);
    Promise.resolve(value)
      .then(resolve, reject)
      .finally(() => signal?.removeEventListener("abort", end));
  });
}

// readText reads a body, but not more than a limit. For an answer that is over it this is as good as one that broke off.
async function readText(response: Response, most: number): Promise<string> {
  const reader = response.body?.getReader();
  if (!reader) return "";
  const decoder = new TextDecoder();
  const parts: string[] = [];
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
