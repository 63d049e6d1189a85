/** A message to append. A string alone is one of the type text/plain, bytes alone are application/octet-stream. */
export type NewMessage =
  | string
  | Uint8Array
  | {
      body: string | Uint8Array;
      /** text/plain; charset=utf-8 for a string and application/octet-stream for bytes if it is not set. */
      contentType?: string;
      /**
       * Makes appending the same message again harmless for at least 24 hours, through any backend: 1 to 255 characters of
       * printable ASCII, known to its log. Without it the Client makes one: see `Client.append`.
       */
      key?: string;
      /**
       * They stand beside the body: 16 at most, and 4 KiB of names and values. Names are those of HTTP headers, and read
       * in lower case. Values are text without control characters.
       */
      headers?: Readonly<Record<string, string>>;
    };

/** A message that was read. It is plain data, which can be copied and sent to other windows and workers. */
export interface Message {
  /** 1, 2, 3, … in its log. */
  position: number;
  /** Names it in the deployment. */
  id: string;
  /** What was appended, byte by byte. */
  bytes: Uint8Array<ArrayBuffer>;
  /** The same as text, or null if it is not UTF-8 without NUL, whatever its content type says. */
  text: string | null;
  contentType: string;
  /** With "traceparent" and "tracestate" if there were any. */
  headers: Record<string, string>;
  /** By RFC 3339, in UTC and with microseconds, of which a Date keeps milliseconds. */
  acceptedAt: string;
  persistedAt: string;
  /** What it held is gone: its bytes, content type and headers are empty. */
  erased: boolean;
}

/** A message as it is sent. */
export interface Outgoing {
  body: Uint8Array<ArrayBuffer>;
  contentType: string;
  key: string;
  headers: Record<string, string>;
}

/** Unsendable is why a message cannot be sent. */
export class Unsendable extends Error {}

const encoder = new TextEncoder();

/** Checks a message, and takes a copy of it, so that it can be sent again whatever becomes of the original. */
export function outgoing(message: NewMessage): Outgoing {
  const full = typeof message === "string" || message instanceof Uint8Array ? { body: message } : message;
  const { body, key = "", headers = {} } = full as Exclude<NewMessage, string | Uint8Array>;
  if (typeof body !== "string" && !(body instanceof Uint8Array)) throw new Unsendable("a body must be a string or a Uint8Array");
  const type = typeof body === "string" ? "text/plain; charset=utf-8" : "application/octet-stream";
  const contentType = (full as { contentType?: string }).contentType || type;
  if (!isPrintable(contentType)) throw new Unsendable(`the content type ${shown(contentType)} must be printable ASCII`);
  if (!isPrintable(key)) throw new Unsendable(`the key ${shown(key)} must be printable ASCII`);
  for (const [name, value] of Object.entries(headers)) {
    if (!name.isWellFormed() || !value.isWellFormed())
      throw new Unsendable(`header ${shown(name)}: half of a surrogate pair is no text`);
  }
  return { body: typeof body === "string" ? encoded(body) : new Uint8Array(body), contentType, key, headers: { ...headers } };
}

// encoded refuses what TextEncoder would replace.
function encoded(text: string): Uint8Array<ArrayBuffer> {
  if (!text.isWellFormed()) throw new Unsendable("the body has half of a surrogate pair, which is no text");
  return encoder.encode(text);
}

/** Whether a text is of printable ASCII. */
export const isPrintable = (text: string) => /^[ -~]*$/.test(text);

export const shown = (text: string) => JSON.stringify(text.slice(0, 40));

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A message as a line of a request of many. */
export function lineOf({ body, contentType, key, headers }: Outgoing): string {
  const line: Record<string, unknown> = { content_type: contentType };
  try {
    line.body = strict.decode(body);
  } catch {
    line.body_base64 = toBase64(body);
  }
  if (key !== "") line.key = key;
  if (Object.keys(headers).length > 0) line.headers = headers;
  return `${JSON.stringify(line)}\n`;
}

const piece = 0x8000; // arguments of a call

function toBase64(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let i = 0; i < bytes.length; i += piece) parts.push(String.fromCharCode(...bytes.subarray(i, i + piece)));
  return btoa(parts.join(""));
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Reads a message as the API shows it. It fails if it is none. */
export function messageOf(shown: Record<string, unknown>): Message {
  const { position, id, body, body_base64, content_type, accepted_at, persisted_at } = shown;
  const words = [id, content_type, accepted_at, persisted_at];
  if (!isPosition(position) || position === 0 || !words.every((word) => typeof word === "string")) {
    throw new Error(`no message: position ${position}, id ${id}`);
  }
  return {
    position,
    id: id as string,
    ...contentOf(body, body_base64),
    contentType: content_type as string,
    headers: (shown.headers ?? {}) as Record<string, string>,
    acceptedAt: accepted_at as string,
    persistedAt: persisted_at as string,
    erased: shown.erased === true,
  };
}

/** What a message or a dead letter holds. It fails if that is neither text nor base64. */
export function contentOf(body: unknown, base64: unknown): { bytes: Uint8Array<ArrayBuffer>; text: string | null } {
  if (typeof body === "string") return { bytes: encoder.encode(body), text: body };
  if (typeof base64 === "string") return { bytes: fromBase64(base64), text: null };
  throw new Error("a message without a body");
}

/** Whether a value can be a position: numbers above 2^53 - 1 would not be exact, and the API knows none. */
export function isPosition(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
