// What is between a client and a deployment, and does what the test says with each request.

import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { after } from "node:test";

/** Seen is a request that has come. */
export interface Seen {
  method: string;
  path: string;
  headers: IncomingMessage["headers"];
  body: Buffer;
  at: number;
}

/**
 * A fate is what becomes of a request: it passes; it is lost before it arrives; its answer is lost; nothing is ever
 * answered; or it is answered here.
 */
export type Fate = "pass" | "lose" | "lose-answer" | "hang" | ((answer: ServerResponse) => void);

/** Wire is an HTTP proxy. Each request meets the next fate, and every further one passes. */
export class Wire {
  readonly seen: Seen[] = [];
  fates: Fate[] = [];
  readonly #to: string;
  readonly #server = createServer((question, answer) => this.#serve(question, answer));
  readonly #sockets = new Set<Socket>();

  constructor(to: string) {
    this.#to = to;
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  /** How many connections are open. */
  get connections(): number {
    return this.#sockets.size;
  }

  async listen(): Promise<void> {
    await once(this.#server.listen(0, "127.0.0.1"), "listening");
  }

  /** Breaks all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    this.cut();
  }

  async #serve(question: IncomingMessage, answer: ServerResponse): Promise<void> {
    const { method = "", url: path = "", headers } = question;
    const body = Buffer.concat(await question.toArray());
    this.seen.push({ method, path, headers, body, at: performance.now() });
    const fate = this.fates.shift() ?? "pass";
    if (typeof fate === "function") return fate(answer);
    if (fate === "lose") question.socket.destroy();
    if (fate === "lose" || fate === "hang") return;
    const passed = request(`${this.#to}${path}`, { method, headers, agent: false });
    passed.on("error", () => question.socket.destroy());
    question.socket.on("close", () => passed.destroy());
    passed.on("response", (from) => {
      from.on("error", () => question.socket.destroy());
      if (fate === "lose-answer") return from.on("end", () => question.socket.destroy()).resume();
      answer.writeHead(from.statusCode ?? 0, from.headers);
      return from.pipe(answer);
    });
    passed.end(body);
  }
}

export async function startWire(to: string): Promise<Wire> {
  const wire = new Wire(to);
  await wire.listen();
  after(() => wire.close());
  return wire;
}

/** Answers with a status, a body and headers. */
export function says(status: number, body: string, headers: Record<string, string> = {}): Fate {
  return (answer) => answer.writeHead(status, headers).end(body);
}

/** Answers as the API says no. */
export function problem(status: number, kind: string, headers: Record<string, string> = {}): Fate {
  const body = JSON.stringify({ type: `urn:drainmark:problem:${kind}`, title: "a title", status, detail: "a detail" });
  return says(status, body, { "Content-Type": "application/problem+json", ...headers });
}
