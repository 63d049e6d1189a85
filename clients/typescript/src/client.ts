import {
  type Backlog,
  type DeadLetter,
  type DeadLetterFilter,
  filterQuery,
  type LogInfo,
  type Settled,
  type Wanted,
  type Working,
} from "./admin.js";
import { type Answer, type Call, Caller, type CallOptions, type Config } from "./call.js";
import { DrainmarkError, misunderstood, unsent } from "./errors.js";
import { camel, type JSONObject, letterOf } from "./json.js";
import { isPosition, lineOf, type Message, type NewMessage, type Outgoing, outgoing } from "./message.js";
import { allOf, type Page, pageOf, type ReadOptions } from "./pages.js";
import { idsOf, isSettled, type Status } from "./receipts.js";
import { pause } from "./retry.js";
import { type Batch, type FollowOptions, stream, tail } from "./tail.js";

/** What a call can be told for which the server can wait before it answers. */
export interface WaitOptions extends CallOptions {
  /** For how long, in ms: rounded up to whole seconds, 60 s at most unless the server was told otherwise. */
  wait?: number | undefined;
}

/** What `appendMany` can be told. */
export interface AppendManyOptions extends WaitOptions {
  /** The idempotency key of the request: messages without one of their own get it, with their number behind it. */
  key?: string | undefined;
}

/** How `wait` and `waitBarrier` can be told to report. */
export interface AwaitOptions extends CallOptions {
  /** Is told each answer, such as that it is stalled, and why. */
  onStatus?: ((status: Status) => void) | undefined;
}

/** Which part of the dead letters is wanted. */
export interface DeadLettersOptions extends DeadLetterFilter, CallOptions {
  /** `next` of the part before. */
  after?: string | undefined;
  /** 1 to 1,000, 100 if not set. The server may answer with fewer although there are more. */
  limit?: number | undefined;
  /** false leaves their bodies out. */
  body?: boolean | undefined;
}

/** How retrying and discarding many can be told to report. */
export interface SettleOptions extends CallOptions {
  /** Is told after each request what has been done so far. */
  onProgress?: ((settled: Settled) => void) | undefined;
}

const step = 5000; // ms that wait and waitBarrier let the server wait, in one request of many

/** Client talks to one deployment. It keeps nothing open between two calls but what fetch keeps. */
export class Client {
  readonly #caller: Caller;

  /** Connects to nothing yet. It throws a TypeError for a configuration that cannot be. */
  constructor(config: Config) {
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
  async append(log: string, message: NewMessage, options: WaitOptions = {}): Promise<Status> {
    const call = this.#writing("POST", `${logPath(log)}/messages`, options);
    const { key, ...one } = this.#outgoing(call, message);
    const keyed = key || (this.#caller.patience.on ? newKey() : "");
    if (meansMore(one.contentType) || Object.keys(one.headers).length > 0) {
      // As a line: alone, its body would be taken for many messages, or for CloudEvents, and HTTP cannot carry all headers.
      const { marks = [], ...status } = await this.#append(
        { ...call, ...manyOf([{ ...one, key: keyed }]), repeatable: keyed !== "" },
        1,
      );
      const [id] = idsOf({ ...status, marks });
      return { ...status, ...(id !== undefined && { id }) };
    }
    return this.#append({ ...call, body: one.body, contentType: one.contentType, ...withKey(keyed) }, 1);
  }

  /**
   * Appends messages in their order, with one request and one receipt. Others' messages can stand between them only if there
   * are more than 1,000, or megabytes. The API takes up to 10,000 messages and 8 MiB at once unless it was told otherwise.
   * Keys, errors and the wait are as with `append`, but a request that failed without certainty may have left any number of
   * the first messages in the log.
   */
  async appendMany(
    log: string,
    messages: Iterable<NewMessage>,
    { key = "", ...options }: AppendManyOptions = {},
  ): Promise<Status> {
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
  async clear(log: string, options: WaitOptions = {}): Promise<Status> {
    return this.#status(this.#writing("DELETE", `${logPath(log)}/messages`, options));
  }

  /** Removes the messages of a log up to a position, or all if it is shorter. Otherwise it is as `clear`. */
  async trim(log: string, through: number, options: WaitOptions = {}): Promise<Status> {
    const call = this.#writing("POST", `${logPath(log)}/trim?through=${through}`, options);
    return this.#status(withPosition(call, "through", through));
  }

  /**
   * Erases the message at a position: that, its id and times stay, and what it held is gone. Nothing happens if there is no
   * such message. Otherwise it is as `clear`.
   */
  async erase(log: string, position: number, options: WaitOptions = {}): Promise<Status> {
    const call = this.#writing("DELETE", `${logPath(log)}/messages/${position}`, options);
    return this.#status(withPosition(call, "position", position));
  }

  /**
   * Deletes a log: it is not found and in no list until something is written to it again, and positions go on then. Otherwise
   * it is as `clear`.
   */
  async delete(log: string, options: WaitOptions = {}): Promise<Status> {
    return this.#status(this.#writing("DELETE", logPath(log), options));
  }

  /**
   * Reads a page of a log. It may have fewer messages than the limit although there are more. A log that nobody has
   * written to is "not-found". "not-reached" is not asked for again: it is an answer.
   */
  async messages(log: string, options: ReadOptions = {}): Promise<Page> {
    const { after = 0, limit, receipts, known } = options;
    const path = withQuery(`${logPath(log)}/messages`, { after: String(after), ...(limit && { limit: String(limit) }) });
    const call = withPosition({ ...this.#reading(path, options), receipts, ifNoneMatch: known?.etag }, "after", after);
    const answer = await this.#caller.do(call);
    if (answer.status === 304 && known) return known;
    return pageOf(log, this.#caller.read(call, answer), answer, (detail) => misunderstood(call, answer, detail));
  }

  /**
   * Reads a log page by page, from `after` to what is its end then. If a message is missing that was not cleared, it fails
   * with the kind "positions". If a replica answers that is older than the one before, it asks again.
   */
  all(log: string, options: Omit<ReadOptions, "known"> = {}): AsyncGenerator<Message, void, undefined> {
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
  async *tail(log: string, options: FollowOptions = {}): AsyncGenerator<Message, void, undefined> {
    const probe = async (position: number) => {
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
  async *stream(log: string, options: FollowOptions = {}): AsyncGenerator<Batch, never, undefined> {
    return yield* stream(this.#caller, this.#eventsPath(log, options), options);
  }

  /** The logs, in order of their names. */
  async *logs(options: CallOptions = {}): AsyncGenerator<LogInfo, void, undefined> {
    for (let path = "/v1/logs"; ; ) {
      const { answer, said } = await this.#caller.ask(this.#reading(path, options));
      const logs = camel(said.logs ?? []) as LogInfo[];
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
  async status(receipt: string, { log, ...options }: WaitOptions & { log?: string | undefined } = {}): Promise<Status> {
    return this.#status(this.#reading(withQuery(`/v1/receipts/${segment(receipt, "receipt")}`, log ? { log } : {}), options));
  }

  /** Asks until a receipt's writes are persisted or rejected, and returns which. */
  async wait(receipt: string, options: AwaitOptions = {}): Promise<Status> {
    return this.#await((wait) => this.status(receipt, { ...options, wait }), options);
  }

  /**
   * Asks whether everything is persisted that was accepted before it, by whomever: in the named logs, or in all. It waits for
   * at most `wait` until it is: the state is reached, or else pending, or stalled with a reason. With the receipt of an
   * earlier answer it asks the same question again.
   */
  async barrier(options: WaitOptions & { logs?: string[] | undefined; receipt?: string | undefined } = {}): Promise<Status> {
    const { logs = [], receipt } = options;
    const query: [string, string][] = receipt ? [["receipt", receipt]] : logs.map((log) => ["log", log]);
    return this.#status({ ...this.#reading(withQuery("/v1/barriers", query), options), method: "POST" });
  }

  /** Returns when a barrier is reached, for the named logs or for all. */
  async waitBarrier({ logs, ...options }: AwaitOptions & { logs?: string[] | undefined } = {}): Promise<Status> {
    let receipt: string | undefined;
    const ask = async (wait: number) => {
      const status = await this.barrier({ ...options, logs, receipt, wait });
      receipt = status.receipt;
      return status;
    };
    return this.#await(ask, options);
  }

  /** What is accepted and not yet persisted. To know that everything is persisted, use `waitBarrier`. */
  async backlog(options: CallOptions = {}): Promise<Backlog> {
    const call = this.#reading("/v1/backlog", options);
    const { answer, said } = await this.#caller.ask(call);
    if (!Array.isArray(said.partitions) || said.partitions.length === 0)
      throw misunderstood(call, answer, "a backlog without partitions");
    return camel(said) as Backlog;
  }

  /**
   * Whether an append would be accepted now, whether anything can be read, and whether what is accepted gets persisted. It
   * returns whenever a backend has answered, also when nothing works.
   */
  async working(options: CallOptions = {}): Promise<Working> {
    const call = this.#reading("/v1/status", options);
    const { answer, said } = await this.#caller.ask(call);
    if (!said.appends || !said.reads) throw misunderstood(call, answer, "it does not say what works");
    return { ...(camel(said) as Omit<Working, "backend">), backend: backendOf(answer) };
  }

  /** How many consumers are wanted now, as an autoscaler asks. */
  async consumers(options: CallOptions = {}): Promise<Wanted> {
    const call = this.#reading("/v1/consumers", options);
    const { answer, said } = await this.#caller.ask(call);
    if (!isPosition(said.wanted)) throw misunderstood(call, answer, "no number of consumers");
    return camel(said) as Wanted;
  }

  /** The open dead letters that are meant. */
  async *deadLetters(options: Omit<DeadLettersOptions, "after"> = {}): AsyncGenerator<DeadLetter, void, undefined> {
    for (let after: string | undefined; ; ) {
      const { letters, next } = await this.deadLettersPage({ ...options, after });
      yield* letters;
      if (next === null) return;
      after = next;
    }
  }

  /** A part of the open dead letters that are meant. `next` is the `after` of the next one, null at the end. */
  async deadLettersPage(options: DeadLettersOptions = {}): Promise<{ letters: DeadLetter[]; next: string | null }> {
    const { after, limit, body = true } = options;
    const place = { ...(limit && { limit: String(limit) }), ...(after && { after }), ...(!body && { body: "false" }) };
    const call = this.#reading(withQuery("/v1/dead-letters", { ...place, ...filterQuery(options) }), options);
    const { answer, said } = await this.#caller.ask(call);
    try {
      const letters = (said.dead_letters as JSONObject[]).map(letterOf);
      return { letters, next: (said.next as string | undefined) || null };
    } catch (error) {
      throw misunderstood(call, answer, `dead letters that make no sense: ${(error as Error).message.slice(0, 100)}`);
    }
  }

  /**
   * Counts the dead letters that `retryDeadLetters` and `discardDeadLetters` would settle. Something of the filter must be
   * set. A `before` of now means all. Missing records are not among them.
   */
  async countDeadLetters(filter: DeadLetterFilter, options: CallOptions = {}): Promise<Settled> {
    const path = withQuery("/v1/dead-letters", { ...filterQuery(filter), dry_run: "true" });
    const { said } = await this.#caller.ask({ ...this.#reading(path, options), method: "DELETE" });
    return { ...(camel(said) as Settled), refused: 0 };
  }

  /**
   * Has all dead letters tried again that are meant. It goes on from request to request. Each waits for a while until its
   * retries are done, so that other writes come through. It returns how many it has had accepted, and how many are known
   * to have been refused again.
   */
  retryDeadLetters(filter: DeadLetterFilter, options: SettleOptions = {}): Promise<Settled> {
    return this.#settle("POST", filter, options);
  }

  /** Gives all dead letters up that are meant, as `retryDeadLetters` has them tried again. */
  discardDeadLetters(filter: DeadLetterFilter, options: SettleOptions = {}): Promise<Settled> {
    return this.#settle("DELETE", filter, options);
  }

  /**
   * Has a dead letter tried again. The state is accepted, or after a wait persisted once its record is. If the record was
   * refused again, the state is rejected, which is no error. The letter stays, with the new reason. It fails with
   * "not-found" if there is no such open dead letter, and is made again only if it was certainly not done.
   */
  async retryDeadLetter(id: string, options: WaitOptions = {}): Promise<Status> {
    return this.#status(this.#writing("POST", `${letterPath(id)}/retry`, options));
  }

  /**
   * Gives a dead letter up. Its receipts are still said to be rejected, with the reason. States and errors are as with
   * `retryDeadLetter`.
   */
  async discardDeadLetter(id: string, options: WaitOptions = {}): Promise<Status> {
    return this.#status(this.#writing("DELETE", letterPath(id), options));
  }

  #writing(method: string, path: string, { signal, timeout, wait }: WaitOptions): Call {
    return { method, path, signal, timeout, wait };
  }

  // reading is a call that does no harm however often it is made.
  #reading(path: string, options: WaitOptions): Call {
    return { ...this.#writing("GET", path, options), repeatable: true };
  }

  #eventsPath(log: string, { after }: FollowOptions): string {
    const path = `${logPath(log)}/events`;
    if (after !== undefined) withPosition({ method: "GET", path }, "after", after);
    return path;
  }

  #outgoing(call: Call, message: NewMessage): Outgoing {
    try {
      return outgoing(message);
    } catch (error) {
      throw unsent(call, "invalid", (error as Error).message, error);
    }
  }

  async #append(call: Call, count: number): Promise<Status> {
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
      rejected: status,
    });
  }

  async #status(call: Call): Promise<Status> {
    return (await this.#statusAnd(call)).status;
  }

  // statusAnd makes a call that is answered with a Status.
  async #statusAnd(call: Call): Promise<{ status: Status; answer: Answer }> {
    const { answer, said } = await this.#caller.ask(call);
    const status = { ...(camel(said) as Status), backend: backendOf(answer) };
    if (!status.receipt || !status.state) throw misunderstood(call, answer, "there is no receipt, or no state");
    return { status, answer };
  }

  // await asks until the status is settled. A server that answers before the wait is over, because it stops for instance,
  // is not asked again at once.
  async #await(ask: (wait: number) => Promise<Status>, { signal, onStatus }: AwaitOptions): Promise<Status> {
    for (const pace = this.#caller.patience.pace(); ; ) {
      const began = performance.now();
      const status = await ask(step);
      onStatus?.(status);
      if (isSettled(status)) return status;
      if (performance.now() - began > step / 2) pace.reset();
      else await pause(pace.next(), signal);
    }
  }

  async #settle(method: string, filter: DeadLetterFilter, { onProgress, ...options }: SettleOptions): Promise<Settled> {
    const all = { deadLetters: 0, records: 0, refused: 0 };
    for (let after = {}; ; ) {
      const path = withQuery("/v1/dead-letters", { ...filterQuery(filter), ...after });
      const call = this.#writing(method, path, { ...options, wait: step });
      const { answer, said } = await this.#caller.ask(call);
      if (said.next !== null && typeof said.next !== "string")
        throw misunderstood(call, answer, "it does not say whether there are more dead letters");
      const part = camel(said) as Settled & { rejected?: { count: number }; next: string | null };
      all.deadLetters += part.deadLetters;
      all.records += part.records;
      all.refused += part.rejected?.count ?? 0;
      onProgress?.({ ...all });
      if (part.next === null) return all;
      after = { after: part.next };
    }
  }
}

const manyType = "application/x-ndjson";

// meansMore says whether a content type, of a request, says how its body is made into messages: that of a request of many,
// under any of its names, and those of CloudEvents.
function meansMore(contentType: string): boolean {
  return /^\s*application\/((x-)?(ndjson|jsonl|jsonlines|json-lines)\s*(;|$)|cloudevents)/i.test(contentType);
}

function manyOf(messages: Outgoing[]) {
  return { body: new TextEncoder().encode(messages.map(lineOf).join("")), contentType: manyType };
}

// withKey gives a call an idempotency key, in quotes (RFC 9651), unless it is "".
function withKey(key: string): Partial<Call> {
  return key === "" ? {} : { key: `"${key.replace(/[\\"]/g, "\\$&")}"`, repeatable: true };
}

/** Makes an idempotency key, with which sending again is harmless. */
export function newKey(): string {
  // crypto.randomUUID is only in pages that came by HTTPS.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const logPath = (log: string) => `/v1/logs/${segment(log, "log")}`;
const letterPath = (id: string) => `/v1/dead-letters/${segment(id, "dead letter")}`;

// segment is a text as a part of a path. The parts that lead somewhere else cannot be escaped.
function segment(text: string, what: string): string {
  if (/^\.{0,2}$/.test(text) || !text.isWellFormed()) {
    throw unsent({ method: "calling", path: "" }, "invalid", `${JSON.stringify(text)} cannot be a ${what}`);
  }
  return encodeURIComponent(text);
}

function withQuery(path: string, query: Record<string, string> | [string, string][]): string {
  const text = new URLSearchParams(query).toString();
  return text === "" ? path : `${path}?${text}`;
}

function withPosition(call: Call, what: string, position: number): Call {
  if (isPosition(position)) return call;
  throw unsent(call, "invalid", `${what} is ${position}: a position is a whole number from 0 to 2^53 - 1`);
}

const backendOf = ({ headers }: Answer) => headers.get("Drainmark-Backend") ?? "";
