/**
 * Where writes, or a barrier, stand.
 *
 * - `accepted`: on the durable queue, and nothing else has been asked,
 * - `pending`: not persisted yet, or not visible yet to the backend that has answered,
 * - `persisted`: every write is in the database, and the backend that has answered shows it,
 * - `rejected`: some can never be persisted, or a retry was refused again (the rest is persisted),
 * - `stalled`: pending, and nothing moves,
 * - `reached`: everything accepted before the barrier is persisted, except for `Status.setAside`.
 */
export type State = "accepted" | "pending" | "persisted" | "rejected" | "stalled" | "reached";

/** What is known of writes, or of a barrier. What the answer does not say is undefined. */
export interface Status {
  /** To ask again with (a barrier's may change). It is opaque, and can be kept anywhere. */
  receipt: string;
  state: State;
  /** Why it is rejected or stalled, or what is set aside, for people. */
  reason?: string;
  /** How many records it stands for. */
  count?: number;
  /** What the message of `append` is called in its log, unless it had been accepted before, with the same key. */
  id?: string;
  /** The records' marks, as runs such as "2-1af6d8f8c61bd90e5a88d53d88ae4118-7..9": see `idsOf`. */
  marks?: string[];
  /** Where the messages stand, if `status` was asked with a log, and they are found. */
  messages?: { log: string; position: number; id: string }[];
  /** Which of the records can never be persisted, if the state is rejected. */
  rejected?: RejectedRecords;
  /** How many accepted records the broker did not deliver, if that alone keeps a barrier from being reached. */
  missing?: number;
  /** How many records of a barrier's partitions are dead letters that nobody has discarded, if that is known. */
  setAside?: number;
  /** The run of a backend that has answered, "" if it does not say. */
  backend: string;
}

/** Which of a receipt's records can never be persisted. */
export interface RejectedRecords {
  /** How many, at least so many unless it is exact. */
  count: number;
  exact: boolean;
  /** The ids of up to 100 of their dead letters: those that their messages would have. */
  deadLetters: string[];
  /** Why each of these was set aside. */
  reasons: string[];
}

/** Whether asking again cannot bring anything new. */
export const isSettled = ({ state }: Status) => state === "persisted" || state === "rejected" || state === "reached";

/**
 * Makes one receipt of several, which stands for all their writes and can be used wherever a receipt can. The API takes
 * up to 1,000 at once. `Client.status` answers with a shorter one for the same writes. "" stands for nothing.
 */
export function merge(...receipts: string[]): string {
  return receipts.filter((receipt) => receipt !== "").join(",");
}

/**
 * What the records are called, in the order in which they were appended: each is the id that the message has in its log.
 * It gives nothing if the answer does not say it, as a barrier's does not. A message that had been accepted before, with
 * the same key, has its first id in the log.
 */
export function* idsOf({ id, marks = [] }: Status): Generator<string, void, undefined> {
  if (id !== undefined) return yield id;
  for (const run of marks) {
    const parts = /^(.*-)(\d+)(?:\.\.(\d+))?$/.exec(run);
    if (!parts) continue;
    const [, producer, first = "", last = first] = parts;
    for (let i = BigInt(first); i <= BigInt(last); i++) yield `${producer}${i}`;
  }
}
