// What can be asked and switched on the flow page: the barrier, and the consumer's pause switch.

import { api, byId, pause, setText, watched } from "./api.js";
import { DrainmarkError } from "./drainmark.js";
import { why } from "./errors.js";
import { clockText, durationText } from "./flow-model.js";
import { answer } from "./flow-view.js";
import { answered } from "./sign-in.js";
import { signed } from "./token.js";
import { waiting } from "./turns.js";

const barrierWait = 5000; // ms that one question waits at the server

// Barrier is the question whether everything is persisted.
export class Barrier {
  #asking = null; // the AbortController of the question under way

  constructor() {
    byId("barrier-ask").addEventListener("click", () => this.#ask());
    byId("barrier-cancel").addEventListener("click", () => this.#asking?.abort());
  }

  async #ask() {
    if (this.#asking) return;
    this.#asking = new AbortController();
    this.#mark(true);
    try {
      await this.#askOn(this.#asking.signal);
    } catch (error) {
      if (this.#asking.signal.aborted) this.#say("unknown", "cancelled", "No answer was waited for. The writes go on all the same.");
      else this.#say("bad", "cannot ask", `It cannot be asked: ${why(error)}.`);
    }
    this.#asking = null;
    this.#mark(false);
  }

  #mark(asking) {
    if (!asking && document.activeElement === byId("barrier-cancel")) byId("barrier-ask").focus();
    byId("barrier-ask").setAttribute("aria-disabled", String(asking));
    byId("barrier-cancel").setAttribute("aria-disabled", String(!asking));
  }

  #say(state, word, text) {
    answer("barrier-answer", state, word, text);
  }

  // askOn asks until the answer is yes. It is a question about the moment at which it began, however long it takes.
  async #askOn(signal) {
    const before = `before ${clockText(new Date())}`;
    const began = performance.now();
    const took = () => durationText((performance.now() - began) / 1000);
    this.#say("waiting", "asking", "The markers are on their way …");
    let receipt = "";
    for (let wait = 1000; ; wait = barrierWait) {
      const now = await this.#once(receipt, wait, signal);
      receipt = now.receipt || receipt;
      if (now.state === "reached") {
        const aside = now.setAside ?? 0;
        const all = aside > 0 ? "Everything else" : "Everything";
        const but = aside > 0 ? ` ${aside === 1 ? "1 record is" : `${aside} records are`} set aside as dead letters, and in no log.` : "";
        return this.#say("good", "yes", `${all} accepted ${before} is persisted and visible here (after ${took()}).${but}`);
      }
      if (now.state === "stalled") this.#say("bad", "stalled", `Not yet: ${now.reason}. Asking on …`);
      else if (now.state === "pending") this.#say("waiting", "not yet", `Something accepted ${before} is still on its way. Asking on …`);
      else this.#say("unknown", now.word, `${now.reason}. Asking on …`);
      await pause(now.state === "pending" ? 300 : 1000, signal);
      signal.throwIfAborted();
    }
  }

  // once asks once: a new question without a receipt, the same one again with it. It fails when asking again is no use.
  async #once(receipt, wait, signal) {
    try {
      return await waiting(wait, (most) => api.barrier({ receipt, wait: most, signal }));
    } catch (error) {
      if (!(error instanceof DrainmarkError) || error.kind === "aborted" || (error.status >= 400 && error.status < 500)) throw error;
      const word = error.status === 0 ? "no answer" : "not now";
      return { state: "", word, receipt: error.receipt, reason: why(error) };
    }
  }
}

// askSwitch asks for the switch, or sets it. It is no part of the API.
async function askSwitch(timeout, options = {}) {
  await answered();
  try {
    const answer = await watched("admin/consumer", { ...options, headers: signed(options.headers), signal: AbortSignal.timeout(timeout) });
    const said = await answer.json().catch(() => ({}));
    if (answer.ok && typeof said.paused === "boolean") return said;
    throw Object.assign(new Error(said.detail ?? `status ${answer.status}`), { status: answer.status });
  } catch (error) {
    if (error.status) throw error;
    throw new Error(error.name === "TimeoutError" ? "no answer in time" : "no connection");
  }
}

// PauseSwitch is the switch that "drainmark up" may have.
export class PauseSwitch {
  #source;
  #button = byId("pause-switch");
  #setting = false;
  #lacking = ""; // why there is no switch
  resumedAt = -Infinity; // ms of performance.now()

  constructor(source) {
    this.#source = source;
    this.#button.addEventListener("click", () => this.#toggle());
  }

  // ask returns the switch's state, or null if there is none, or none for who asks.
  async ask() {
    try {
      return await askSwitch(3000);
    } catch (error) {
      if (error.status !== 404 && error.status !== 403) throw error;
      this.#lacking = error.status === 403 ? `${why(error)}.` : "There is no switch here: it belongs to “drainmark up”, on this machine only.";
      return null;
    }
  }

  async #toggle() {
    if (this.#setting || !this.#source.value || !this.#source.fresh(performance.now())) return;
    this.#setting = true;
    const paused = !this.#source.value.paused;
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ paused });
    try {
      this.#source.succeed(await askSwitch(5000, { method: "PUT", headers, body }), performance.now());
      if (!paused) this.resumedAt = performance.now();
    } catch (error) {
      this.#source.fail(error);
    }
    this.#setting = false;
    this.show(performance.now());
  }

  // show shows what is known of the switch.
  show(now) {
    const { value, at, error } = this.#source;
    const there = at > 0 && value !== null;
    this.#button.hidden = !there;
    if (there) {
      this.#button.setAttribute("aria-checked", String(!value.paused));
      this.#button.setAttribute("aria-disabled", String(!this.#source.fresh(now)));
    }
    setText(byId("pause-answer").firstElementChild, this.#text(there, value, at, error, now));
  }

  #text(there, value, at, error, now) {
    if (error) return `The switch does not answer: ${why(error)}.${there ? " What it shows may be old." : ""}`;
    if (at === 0) return "Asking whether the consumer can be paused from here …";
    if (!there) return this.#lacking;
    if (!value.paused) return "The consumer runs.";
    if (value.running) return "The consumer is pausing: it commits what it has in hand.";
    return "The consumer is paused. Writes wait in the queue.";
  }
}
