import type { Call, Caller, CallOptions } from "./call.js";
import { DrainmarkError, failed, misunderstood, unsent } from "./errors.js";
import { EventReader, type ServerEvent } from "./events.js";
import { parseObject } from "./json.js";
import { isPosition, type Message, messageOf } from "./message.js";
import { Limit, pause } from "./retry.js";

const mostEvent = 64 << 20; // characters

/** Where an event stream begins. */
export interface FollowOptions extends CallOptions {
  /**
   * The position behind which to begin: 0 for the beginning, a page's `lastPosition` for its end. Without it, at what is
   * the log's end when the stream is opened.
   */
  after?: number | undefined;
}

/** What has come of an event stream at once. */
export interface Batch {
  /** In order. There may be none: then it is a sign of life, such as comes every 15 s. */
  messages: Message[];
  /** The position behind which the stream goes on, null if it has not said so yet. */
  position: number | null;
}

/** Opens one event stream, and gives what comes, until it ends: always with an error, unless nobody takes any more. */
export async function* stream(
  caller: Caller,
  path: string,
  { after, signal, timeout }: FollowOptions,
): AsyncGenerator<Batch, never, undefined> {
  const call: Call = { method: "GET", path, events: true, signal, ...(after !== undefined && { lastEventId: String(after) }) };
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
    for (;;) {
      limit.start(caller.silence, `nothing came for ${caller.silence} ms, the limit`);
      const piece = await next(events, call, response);
      limit.stop(); // it does not run while what has come is used
      if (piece === null) throw failed(call, "the event stream has ended", undefined);
      retryAfter = piece.retry ?? retryAfter;
      const messages = piece.events.filter(({ name }) => name === "message").map((event) => read(event, call, response));
      position = piece.id === null ? (messages.at(-1)?.position ?? position) : idOf(piece.id, call, response);
      yield { messages, position };
    }
  } catch (error) {
    const failure = caller.failure(call, limit, error, "the event stream broke off");
    throw failure.with({ status: failure.status || status, retryAfter: failure.retryAfter || retryAfter });
  } finally {
    limit.close();
  }
}

// next tells an event that is too large from a stream that breaks off: it will be too large again.
async function next(events: EventReader, call: Call, response: Response) {
  try {
    return await events.next();
  } catch (error) {
    throw error instanceof RangeError ? misunderstood(call, response, error.message) : error;
  }
}

function read({ id, data }: ServerEvent, call: Call, response: Response): Message {
  try {
    const message = messageOf(parseObject(data));
    if (id !== "" && id !== String(message.position)) throw new Error(`position ${message.position}`);
    return message;
  } catch (error) {
    throw misunderstood(call, response, `the event ${id.slice(0, 20)} makes no sense: ${(error as Error).message.slice(0, 100)}`);
  }
}

function idOf(id: string, call: Call, response: Response): number {
  const position = Number(id);
  if (!isPosition(position)) throw misunderstood(call, response, `an event with the id ${id.slice(0, 20)}`);
  return position;
}

/** How a log stands, from a state that has the message at a position: null if there is no such state yet. */
export type Probe = (position: number) => Promise<{ lastPosition: number; count: number } | null>;

/**
 * Follows a log over any number of event streams. When one breaks it opens another where it was, and waits longer each
 * time that brings nothing. So it gives each message once and in order.
 */
export async function* tail(
  caller: Caller,
  path: string,
  options: FollowOptions,
  probe: Probe,
): AsyncGenerator<Message, void, undefined> {
  const { signal } = options;
  const pace = caller.patience.pace();
  let last = options.after ?? null;
  while (!signal?.aborted) {
    const before = last;
    let begun = false; // the stream has said where it begins
    try {
      for await (const { messages, position } of stream(caller, path, { ...options, after: last ?? undefined })) {
        for (const message of messages) {
          if (last !== null && message.position !== last + 1) await checkSkip(path, last, message.position, probe);
          last = message.position;
          yield message;
          if (signal?.aborted) return; // what has come already is no longer given
        }
        // Events of a kind that is not known here are passed over, but not their place.
        if (position !== null && (last === null || (begun && position > last))) last = position;
        begun = true;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (!(error instanceof DrainmarkError) || !error.retryable) throw error;
      if (last !== before && before !== null) pace.reset();
      const opened = error.status === 200; // then it is the stream that has said how long to wait at most
      if (opened && error.retryAfter > 0) pace.most = error.retryAfter;
      await pause(pace.next(opened ? 0 : error.retryAfter), signal);
    }
  }
}

// checkSkip says whether the messages between the last one and a position have been cleared. A state that has the
// message at the position has also what was cleared before it. One that is older says nothing: then the stream is
// ended, and the next one brings the message again.
async function checkSkip(path: string, last: number, position: number, probe: Probe): Promise<void> {
  const call = { method: "GET", path };
  const wrong = (detail: string) => unsent(call, "positions", `the log goes on from ${last} with ${position}${detail}`);
  if (position <= last) throw wrong("");
  const log = await probe(position);
  if (log === null || log.lastPosition < position) throw failed(call, "a state that is older than what has come", undefined);
  const cleared = log.lastPosition - log.count;
  if (cleared < position - 1) throw wrong(`, and has been cleared through ${cleared}`);
}
