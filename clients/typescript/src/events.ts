/** Event is a server-sent event. */
export interface ServerEvent {
  name: string; // "message" if it has none
  id: string; // "" if it has none
  data: string;
}

/** What has come of an event stream at once. */
export interface Piece {
  events: ServerEvent[];
  id: string | null; // the last one that was named, also by a block without data; null for none
  retry: number | null; // ms
}

/** EventReader reads server-sent events, piece by piece as they come. Lines may end with LF or with CR LF. */
export class EventReader {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #decoder = new TextDecoder();
  readonly #limit: number; // characters of one event
  #part: string[] = []; // of a line that has no end yet
  #size = 0; // of the event that has no end yet
  #event = newEvent();

  constructor(body: ReadableStream<Uint8Array>, limit: number) {
    this.#reader = body.getReader();
    this.#limit = limit;
  }

  /** The next piece, which may have no event: it is a sign of life. null is the end. An event cut off by it is none. */
  async next(): Promise<Piece | null> {
    const { value, done } = await this.#reader.read();
    if (done) return null;
    const piece: Piece = { events: [], id: null, retry: null };
    const lines = this.#decoder.decode(value, { stream: true }).split("\n");
    this.#grow(lines[0] as string);
    for (const [i, text] of lines.entries()) {
      if (i > 0) this.#grow(text);
      if (i === lines.length - 1) break;
      const line = this.#part.join("");
      this.#part = [];
      this.#take(line.endsWith("\r") ? line.slice(0, -1) : line, piece);
    }
    return piece;
  }

  #grow(text: string): void {
    this.#size += text.length;
    if (this.#size > this.#limit) throw new RangeError(`an event of more than ${this.#limit} characters, the limit`);
    this.#part.push(text);
  }

  #take(line: string, piece: Piece): void {
    if (line === "") {
      const { name, id, data } = this.#event;
      if (id !== "") piece.id = id;
      if (data.length > 0) piece.events.push({ name, id, data: data.join("\n") });
      this.#event = newEvent();
      this.#size = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#event.data.push(value);
    else if (field === "event") this.#event.name = value || "message";
    else if (field === "id") this.#event.id = value;
    else if (field === "retry" && /^\d{1,5}$/.test(value)) piece.retry = Number(value); // up to a minute or so
  }
}

const newEvent = () => ({ name: "message", id: "", data: [] as string[] });
