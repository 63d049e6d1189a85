/** Numbers of records. `ready` and `inFlight` are null where the broker cannot say. */
export interface Counts {
  pending: Count;
  ready: Count | null;
  inFlight: Count | null;
  /** For how long something has been pending, null if nothing is, or it is unknown. */
  oldestPendingSeconds: number | null;
}

/** A number of records. If it is not exact it is a lower bound, and proves nothing when it is 0. */
export interface Count {
  records: number;
  exact: boolean;
}

/** What is accepted and not yet persisted, of all partitions and of each. */
export interface Backlog extends Counts {
  /** The run of a backend that has answered: a lower bound is its own. */
  backend: string;
  partitions: PartitionBacklog[];
}

/** The backlog of one partition. */
export interface PartitionBacklog extends Counts {
  partition: number;
  /** The consumer that holds it, null if none does, "" for those who may not know which. */
  owner: string | null;
  epoch: string;
  revision: number;
  cursor: string;
  producers: number;
  persisted: number;
  /** What the broker did not deliver although it delivered later records. */
  missing: { producer: string; first: number; last: number }[];
  /** Why nothing moves, null if it does. */
  stalled: string | null;
}

/** Whether something would work now, through the backend that has answered. */
export interface Works {
  /** null if that is not known, which only `persisting` says. */
  working: boolean | null;
  /** Why not, or why it is not known, null while it works. */
  reason: string | null;
}

/** What would work now, through the backend that has answered. */
export interface Working {
  appends: Works;
  reads: Works;
  /** Whether what is accepted gets persisted, as far as that backend knows. */
  persisting: Works;
  /** The run of a backend that has answered, "" if it does not say. */
  backend: string;
}

/** How many consumers are wanted now. */
export interface Wanted {
  /** 0 only if everything that had been accepted before the question is persisted. */
  wanted: number;
  /** Whether it is known that a consumer is wanted. */
  known: boolean;
  reason: string;
  pending: Count;
  backend: string;
}

/** What a log has. */
export interface LogInfo {
  name: string;
  /** Of the newest message that there ever was. */
  lastPosition: number;
  /** How many messages it has now: the newest ones. */
  count: number;
  /** Where it begins: of the oldest message that there is, or of the next one if there is none. */
  firstPosition: number;
}

/** A record that could not be persisted and was set aside. What is not known is null or undefined. */
export interface DeadLetter {
  id: string;
  partition: number;
  /** "" if it could not be read. */
  log: string;
  reason: string;
  setAsideAt: string | null;
  /** How often it was tried. */
  attempts: number;
  /** The records it stands for: one, unless it is of records that are missing, or undecoded. */
  producer: string | null;
  first: number | null;
  last: number | null;
  /** Of an undecoded one, the broker's whole message. null if it was not kept, or not asked for. */
  bytes: Uint8Array<ArrayBuffer> | null;
  /** The same as text, null if it is not text. */
  text: string | null;
  contentType?: string;
  headers?: Record<string, string>;
  acceptedAt?: string;
  key?: string;
  /** Who sent it. */
  principal?: string;
  /** The broker's message could not be read. */
  undecoded: boolean;
}

/** Which dead letters are meant: those that fit all that is set. */
export interface DeadLetterFilter {
  log?: string;
  /** How the reason begins. */
  reason?: string;
  /** Set aside before. */
  before?: Date;
}

/** What was done with several dead letters at once. */
export interface Settled {
  deadLetters: number;
  /** How many records they stand for. */
  records: number;
  /**
   * How many retries were refused again, as far as that was known within the wait, and a lower bound above 1,000 in one
   * request. Their dead letters stay.
   */
  refused: number;
}

/** The filter as a query. */
export function filterQuery({ log, reason, before }: DeadLetterFilter): Record<string, string> {
  return { ...(log && { log }), ...(reason && { reason }), ...(before && { before: before.toISOString() }) };
}
