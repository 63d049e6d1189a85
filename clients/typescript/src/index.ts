/**
 * Talks to Drainmark over HTTP, in browsers and Node. See README.md, and docs/http-api.md for what is behind each method.
 *
 * @packageDocumentation
 */
export type * from "./admin.js";
export type { CallOptions, Config } from "./call.js";
export {
  type AppendManyOptions,
  type AwaitOptions,
  Client,
  type DeadLettersOptions,
  newKey,
  type SettleOptions,
  type WaitOptions,
} from "./client.js";
export { DrainmarkError, type ErrorParts, type Kind, type ProblemKind, problemKinds } from "./errors.js";
export type { Message, NewMessage } from "./message.js";
export type { Page, ReadOptions } from "./pages.js";
export { idsOf, merge, type RejectedRecords, type State, type Status } from "./receipts.js";
export type { Retry } from "./retry.js";
export type { Batch, FollowOptions } from "./tail.js";
