// What all pages need: requests to the API with their errors, and a little help with elements. All URLs are relative to
// the page, so it works behind any path.

import { answered, askWho, offer } from "./sign-in.js";
import { signed } from "./token.js";

const defaultTimeout = 15_000; // ms until there must be an answer, besides the wait that was asked for

// ApiError is an answer that is an error, or the lack of an answer.
export class ApiError extends Error {
  constructor(status, problem, headers) {
    const said = problem.detail || problem.title || `status ${status}`;
    super(status === 403 ? `You may not do this: ${said}` : said);
    this.status = status; // 0: there was no answer, so it is not known what was done
    this.type = (problem.type ?? "").replace("urn:drainmark:problem:", ""); // such as "too-large"; "" if none was named
    this.detail = this.message; // for people
    this.receipt = problem.receipt || headers?.get("Drainmark-Receipt") || ""; // of an append that may have been done
    this.retryAfter = 1000 * (parseInt(headers?.get("Retry-After") ?? "", 10) || 0); // ms, 0 if none was named
  }

  // never says that the request cannot be taken, now or later, so nothing was done.
  get never() {
    return this.status >= 400 && this.status < 500 && ![401, 408, 429].includes(this.status);
  }

  // refused says that nothing was done. Only the API itself knows that of a 503: one that does not name its problem is of
  // something in between, and like the lack of an answer it says nothing of what was done.
  get refused() {
    return this.never || this.status === 401 || (this.status === 503 && this.type !== "");
  }

  // lost says of an error about a receipt that nobody will ever be able to answer it. No other error says so, whatever
  // its status: it may be that of something in between, and over soon.
  get lost() {
    return this.type === "receipt-expired" || this.type === "invalid-receipt";
  }
}

// request sends a request and returns {status, headers, body}, where body is the answer's JSON, null for a 304 or a 204.
// It fails with an ApiError, and with an AbortError if options.signal ended it. Options are those of fetch, and:
// wait: ask the server to wait, s; timeout: until the whole answer is there, besides the wait, ms.
export async function request(path, { wait = 0, timeout = defaultTimeout, signal, headers, ...options } = {}) {
  await answered();
  const limit = AbortSignal.timeout(timeout + 1000 * wait);
  const all = signed(headers);
  if (wait > 0) all.set("Prefer", `wait=${wait}`);
  try {
    const answer = await fetch(path, { ...options, headers: all, signal: signal ? AbortSignal.any([signal, limit]) : limit });
    if (answer.status === 304 || answer.status === 204) return { status: answer.status, headers: answer.headers, body: null };
    if (answer.headers.has("WWW-Authenticate")) askWho();
    if (answer.status === 403) offer();
    const text = await answer.text();
    if (!answer.ok) throw new ApiError(answer.status, parse(text) ?? {}, answer.headers);
    const body = parse(text);
    if (body === null) throw new ApiError(0, { detail: "the answer makes no sense" });
    return { status: answer.status, headers: answer.headers, body };
  } catch (error) {
    if (error instanceof ApiError) throw error;
    if (signal?.aborted) throw signal.reason;
    throw new ApiError(0, { detail: error.name === "TimeoutError" ? "no answer in time" : "no connection" });
  }
}

// parse returns what JSON says, or null if it is not JSON: a proxy in between may answer with anything.
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// newKey makes an idempotency key, with which sending again is harmless. (crypto.randomUUID needs HTTPS.)
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// pause waits, and no longer than until the signal ends, if there is one.
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
}

export const byId = (id) => document.getElementById(id);

// element makes an element with properties (not attributes: className, textContent, …) and children. Nothing of it is
// read as HTML.
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

// setText changes a text only if it is another one, so that nothing is laid out or read out for nothing.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// quantity writes a number with its noun: 1 message, 1,200 messages.
export function quantity(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

// ago writes how long something took or is away, in words and roughly.
export function ago(ms) {
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return quantity(Math.floor(s / 86400), "day");
}

// Bell lets one side wait until another has something for it. A ring while nobody waits is not lost.
export class Bell {
  #rung = false;
  #stop = null;

  ring() {
    this.#rung = true;
    this.#stop?.abort();
  }

  // wait returns after a ring, or after some time at the latest.
  async wait(ms) {
    if (!this.#rung) {
      this.#stop = new AbortController();
      await pause(ms, this.#stop.signal);
    }
    this.#rung = false;
  }
}
