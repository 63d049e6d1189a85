import type { Status } from "./receipts.js";

/** The kinds of the API's problems: the ends of their types, in the order of docs/http-api.md. */
export const problemKinds = [
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
  "outcome-unknown",
] as const;

/** What the API says is wrong: the end of a problem's `type`. docs/http-api.md says what each means. */
export type ProblemKind = (typeof problemKinds)[number];

/**
 * What is wrong. Besides the kinds of the API's problems these are
 *
 * - `connection`: there was no answer, or not all of one, or an event stream has ended,
 * - `aborted`: the call's signal ended it,
 * - `rejected`: an append was accepted, and some of its messages can never be persisted: see `DrainmarkError.rejected`,
 * - `positions`: a log has a gap where nothing was cleared, or goes back,
 * - `protocol`: the answer is not one of Drainmark's API, or too large,
 * - `other`: the answer says no in a way that this version does not know, as a proxy's may.
 */
export type Kind = ProblemKind | "connection" | "aborted" | "rejected" | "positions" | "protocol" | "other";

/** What a DrainmarkError is made of. */
export interface ErrorParts {
  kind: Kind;
  /** What is wrong, for people: it names the limit or the value that is at fault. */
  detail: string;
  /** Of the request. */
  method: string;
  /** Of the request: escaped, without the URL's prefix and the query. */
  path: string;
  /** Of the answer, 0 if there was none. */
  status?: number;
  /** Of the problem: the same for all of its kind. */
  title?: string;
  /** How long the server asks to wait, in ms, 0 if it does not say. */
  retryAfter?: number;
  /** Of writes that may have been done. It tells later what became of them. "" if there is none. */
  receipt?: string;
  /** How many requests were made. The rest is of the last one, but `nothingDone` is about all of them. */
  attempts?: number;
  /** Whether the call certainly did nothing, and will not do it later. It is false where nobody can know. */
  nothingDone?: boolean;
  /** Whether the same call may succeed later. It does not say whether that is safe: see `nothingDone`. */
  retryable?: boolean;
  /** Which messages of an append are rejected, if its kind is `rejected`. */
  rejected?: Status | null;
  /** Why, if it was not the API that said no. */
  cause?: unknown;
}

/** Why a call failed. Every error of a Client's methods is one. It never has the Client's URL, or a token. */
export class DrainmarkError extends Error implements Required<ErrorParts> {
  override readonly name = "DrainmarkError";
  readonly kind: Kind;
  readonly detail: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly title: string;
  readonly retryAfter: number;
  readonly receipt: string;
  readonly attempts: number;
  readonly nothingDone: boolean;
  readonly retryable: boolean;
  readonly rejected: Status | null;
  override readonly cause: unknown;

  constructor(parts: ErrorParts) {
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
  with(changes: Partial<ErrorParts>): DrainmarkError {
    return new DrainmarkError({ ...this, ...changes });
  }
}

function textOf({ method, path, status, title, detail, attempts = 1 }: ErrorParts): string {
  const parts = [`${method} ${path.slice(0, 80)}`.trimEnd(), status ? String(status) : "", title ?? "", detail.slice(0, 400)];
  return parts.filter((part) => part !== "").join(": ") + (attempts > 1 ? ` (attempt ${attempts})` : "");
}

/** What an error says of the request that it is about. */
export interface Asked {
  method: string;
  path: string; // escaped, with its query
}

const asked = ({ method, path }: Asked) => ({ method, path: path.split("?", 1)[0] ?? "" });

/** The error of a call for which no request was made. */
export function unsent(call: Asked, kind: Kind, detail: string, cause?: unknown): DrainmarkError {
  return new DrainmarkError({ ...asked(call), kind, detail, nothingDone: true, attempts: 0, cause });
}

/** The error of a request that had no answer, or not all of one. */
export function failed(call: Asked, detail: string, cause: unknown, more: Partial<ErrorParts> = {}): DrainmarkError {
  return new DrainmarkError({ ...asked(call), kind: "connection", detail, cause, retryable: true, ...more });
}

/** The error of an answer that says neither yes nor no in a way that is the API's. */
export function misunderstood(call: Asked, answer: { status: number; headers: Headers }, detail: string): DrainmarkError {
  const { status, headers } = answer;
  return new DrainmarkError({
    ...asked(call),
    kind: "protocol",
    detail,
    status,
    receipt: headers.get("Drainmark-Receipt") ?? "",
  });
}

const prefix = "urn:drainmark:problem:";

/** The error of an answer that says no. */
export function refused(call: Asked, answer: { status: number; headers: Headers; body: string }): DrainmarkError {
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
    retryable: mayPass(status, kind),
  });
}

// problemOf reads a problem. Anything else is somebody else's, and says nothing.
function problemOf(body: string): Record<"type" | "title" | "detail" | "receipt", string> {
  const found = { type: "", title: "", detail: "", receipt: "" };
  try {
    const problem = JSON.parse(body);
    if (!String(problem.type).startsWith(prefix)) return found;
    for (const name of ["type", "title", "detail", "receipt"] as const) found[name] = String(problem[name] ?? "");
  } catch {
    // not JSON
  }
  return found;
}

// provesNothingDone says whether the answer is from a server that knows that nothing was done. A server that refuses a
// request as 4xx has not passed it on, except for the two statuses that report a timeout. A 5xx is made up by a proxy
// as well, after it has passed the request on.
function provesNothingDone(status: number, kind: Kind): boolean {
  if (status === 503) return ["unavailable", "backlog-full", "disk-full", "too-many"].includes(kind);
  if (status === 408) return kind === "unavailable"; // of a server that is stopping; a proxy may have passed it on
  return status >= 400 && status < 500 && status !== 499;
}

// mayPass says whether the same request may be answered otherwise later.
function mayPass(status: number, kind: Kind): boolean {
  if (status === 408 || status === 429) return true;
  return status >= 500 && status !== 501 && status !== 505 && kind !== "misconfigured";
}

const aDay = 24 * 3600_000;

// retryAfterOf reads a Retry-After header (RFC 9110), seconds or a date, as ms. More than a day is a day.
function retryAfterOf(text: string): number {
  if (/^\d+$/.test(text)) return Math.min(1000 * Number(text), aDay);
  const date = Date.parse(text);
  return Number.isNaN(date) ? 0 : Math.min(Math.max(date - Date.now(), 0), aDay);
}

/** Whether an error of fetch proves that nothing was sent: only Node says so much, by the error's causes. */
export function neverSent(error: unknown): boolean {
  const cause = (error as { cause?: unknown } | null)?.cause as
    | { code?: unknown; syscall?: unknown; errors?: unknown[] }
    | null
    | undefined;
  if (cause === null || typeof cause !== "object") return false;
  const all = Array.isArray(cause.errors) ? (cause.errors as { code?: unknown; syscall?: unknown }[]) : [cause];
  return all.length > 0 && all.every(isOfConnecting);
}

function isOfConnecting({ code, syscall }: { code?: unknown; syscall?: unknown }): boolean {
  if (syscall === "connect" || syscall === "getaddrinfo" || code === "UND_ERR_CONNECT_TIMEOUT") return true;
  // It is not who it should be, and was sent nothing.
  return typeof code === "string" && /^(CERT_|ERR_TLS_CERT|UNABLE_TO_|(DEPTH_ZERO_)?SELF_SIGNED_)/.test(code);
}
