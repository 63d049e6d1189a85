// A real deployment: `drainmark up` on free ports of the loopback address, with a directory of its own.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { Client, type Config } from "@drainmark/client";

const program = process.env.DRAINMARK ?? assert.fail("DRAINMARK names the program that the tests start");

// Whoever ends the tests, such as the runner when their time is over, ends the deployments too.
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(1));

/** Deployment is one that can be killed and started again, at the same address and with the same data. */
export class Deployment {
  readonly url: string;
  readonly #directory = mkdtempSync(join(tmpdir(), "drainmark-client-"));
  readonly #args: string[];
  #process: ChildProcess | null = null;
  #said = "";

  constructor(port: number, admin: number, principals: string) {
    this.url = `http://127.0.0.1:${port}`;
    this.#args = ["up", "--data", join(this.#directory, "data"), "--listen", `127.0.0.1:${port}`];
    this.#args.push("--admin-listen", `127.0.0.1:${admin}`, "--log-level", "warn");
    process.once("exit", () => this.#end()); // also where the runner ends before what comes after the tests
    if (principals === "") return;
    const access = join(this.#directory, "access.yaml");
    writeFileSync(access, principals, { mode: 0o600 });
    this.#args.push("--access", access);
  }

  /** Starts it, and waits until it answers. */
  async start(): Promise<void> {
    const started = spawn(program, this.#args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = started;
    for (const output of [started.stdout, started.stderr]) output.on("data", (text) => (this.#said += text));
    await until(`${this.url} answers`, async () => {
      assert.equal(started.exitCode, null, `it has ended: ${this.#said}`);
      const answer = await fetch(`${this.url}/v1/status`).catch(() => null);
      return answer !== null && answer.status < 500;
    });
  }

  /** Ends it by SIGKILL, as a crash does. */
  async kill(): Promise<void> {
    const running = this.#process;
    this.#process = null;
    if (!running || running.exitCode !== null || !running.kill("SIGKILL")) return;
    await once(running, "exit");
  }

  /** Has the consumer stop to drain, or go on. */
  async pause(paused: boolean): Promise<void> {
    const url = `${this.url}/admin/consumer`;
    const body = JSON.stringify({ paused });
    await fetch(url, { method: "PUT", headers: { "Content-Type": "application/json" }, body });
    await until(`the consumer is ${paused ? "paused" : "running"}`, async () => {
      const { running } = (await (await fetch(url)).json()) as { running: boolean };
      return running !== paused;
    });
  }

  client(config: Partial<Config> = {}): Client {
    return new Client({ url: this.url, ...config });
  }

  async remove(): Promise<void> {
    await this.kill();
    this.#end();
  }

  #end(): void {
    this.#process?.kill("SIGKILL");
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Starts a deployment for all tests of a file. */
export async function startDeployment(principals = ""): Promise<Deployment> {
  const deployment = new Deployment(await freePort(), await freePort(), principals);
  after(() => deployment.remove());
  await deployment.start();
  return deployment;
}

/** A port on which nobody listens. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

/** A principal in a file of them, whose token is dmk_ and the name. */
export function principal(name: string, ...grants: string[]): string {
  const sha256 = createHash("sha256").update(`dmk_${name}`).digest("hex");
  return `  - {name: ${name}, tokens: [{sha256: ${sha256}}], grants: [${grants.map((grant) => `"${grant}"`).join(", ")}]}\n`;
}

/** Asks again and again until something holds, for half a minute. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 30_000; !(await holds()); ) {
    assert.ok(Date.now() < end, `not within half a minute: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** All that a generator gives. */
export async function collect<T>(from: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of from) all.push(one);
  return all;
}

/** The first ones that a generator gives. */
export async function take<T>(n: number, from: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of from) if (all.push(one) === n) break;
  return all;
}
