import type { Answer, CallOptions } from "./call.js";
import { DrainmarkError, failed, unsent } from "./errors.js";
import type { JSONObject } from "./json.js";
import { isPosition, type Message, messageOf } from "./message.js";
import { type Pace, pause } from "./retry.js";

/** Which page of a log is wanted. */
export interface ReadOptions extends CallOptions {
  /** The position behind which it begins, 0 for the beginning. */
  after?: number | undefined;
  /** Messages at most, 1 to 1,000 unless the server was told otherwise, 100 if not set. */
  limit?: number | undefined;
  /**
   * Receipts (see `merge`): the page then comes from a state that has their writes, on whichever backend and replica. While
   * the backend does not have them yet it waits for at most `wait`, and then says "not-reached".
   */
  receipts?: string | undefined;
  /** In ms: rounded up to whole seconds. */
  wait?: number | undefined;
  /** A page that was read before with the same options. If it is still the same, it is not sent again, and returned itself. */
  known?: Page | undefined;
}

/** A part of a log. */
export interface Page {
  messages: Message[];
  /** Of the newest message that there ever was. */
  lastPosition: number;
  /** How many messages the log has now: the newest ones. */
  count: number;
  /** Of the oldest message that there is, or of the next one if there is none. */
  firstPosition: number;
  /** Names the page as it is now: see `ReadOptions.known`. */
  etag: string;
  /** The run of a backend that has answered, "" if it does not say. */
  backend: string;
}

/** Reads a page of a log as the API shows it. */
export function pageOf(log: string, said: JSONObject, { headers }: Answer, wrong: (detail: string) => Error): Page {
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
      backend: headers.get("Drainmark-Backend") ?? "",
    };
  } catch (error) {
    throw wrong(`a message that makes no sense: ${(error as Error).message.slice(0, 100)}`);
  }
}

const clearedThrough = ({ lastPosition, count }: Page) => lastPosition - count;

const reading = { method: "reading", path: "the log's pages" };

// check says whether a page behind a position has the messages there in order, and none is left out.
function check(page: Page, after: number): void {
  let last = Math.max(after, clearedThrough(page));
  const wrong = (detail: string) => unsent(reading, "positions", detail);
  for (const { position } of page.messages) {
    if (position !== last + 1) throw wrong(`a page goes on from ${last} with ${position}`);
    last = position;
  }
  if (page.messages.length === 0 && page.lastPosition > last) {
    throw wrong(`a page behind ${last} is empty, and the last position is ${page.lastPosition}`);
  }
}

const stalePatience = 30_000; // ms for which a replica is looked for that is as new as what has been read

/** Reads a log page by page, to what is its end then. */
export async function* allOf(
  read: (after: number) => Promise<Page>,
  pace: Pace,
  { after = 0, signal }: ReadOptions,
): AsyncGenerator<Message, void, undefined> {
  let newest = 0;
  let staleSince: number | null = null;
  for (;;) {
    const page = await read(after).catch((error) => unlessStale(error, newest));
    if (page === null || page.lastPosition < newest) {
      staleSince ??= performance.now();
      if (performance.now() - staleSince > stalePatience) {
        throw failed(reading, `the pages are older than what was read before, for ${stalePatience} ms, the limit`, undefined);
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

// unlessStale makes null of the answer of a replica that does not know of the log yet.
function unlessStale(error: unknown, newest: number): null {
  if (error instanceof DrainmarkError && error.kind === "not-found" && newest > 0) return null;
  throw error;
}
