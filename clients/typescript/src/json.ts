import type { DeadLetter } from "./admin.js";
import { contentOf } from "./message.js";

/** JSON is what an answer says, before anybody has looked at it. */
export type JSONObject = Record<string, unknown>;

/**
 * Reads an object. A whole number above 2^53 - 1 would not be exact, so it is an error. The API knows no such positions,
 * and nothing that it counts gets there.
 */
export function parseObject(text: string): JSONObject {
  const value = JSON.parse(text, (_, part) => {
    if (Number.isInteger(part) && !Number.isSafeInteger(part)) throw new Error(`the number ${part} is over 2^53 - 1`);
    return part;
  });
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("not an object");
  return value;
}

/** Names everything as JavaScript does: in_flight is inFlight. Headers are called what they are called. */
export function camel(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camel);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, part]) => [camelName(name), name === "headers" ? part : camel(part)]),
  );
}

const camelName = (name: string) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

export function letterOf({ body, body_base64, ...rest }: JSONObject): DeadLetter {
  const kept = body !== undefined || body_base64 !== undefined;
  return { ...(camel(rest) as DeadLetter), ...(kept ? contentOf(body, body_base64) : { bytes: null, text: null }) };
}
