// What this person writes: it is kept before it is sent, sent until the answer is known, and followed by its receipt
// until it can be read in the log. A message never goes back a step, and becomes one row, not two.

import { ApiError, Bell, newKey, request } from "./api.js";
import { forget, keep, kept, onOtherTab } from "./keep.js";
import { setState } from "./rows.js";

const mostOwn = 200; // messages on their way
const mostCharacters = 1_000_000; // of them together: browsers keep some millions
const keyFor = 23 * 3600_000; // ms for which sending again is harmless; the server knows a key for a day

// ranks are how far a state is: no message goes back to a lower one.
const ranks = { sending: 0, refused: 0, checking: 1, accepted: 2, visible: 3, rejected: 3, unsettled: 3 };
const open = new Set(["sending", "checking", "accepted", "visible"]); // states of what may come to stand in the log
const askedTogether = 50; // receipts in one request
const waitFor = 10; // s that the server may wait for a receipt
const holdFor = 10_000; // ms for which a message is held back that may be this person's

const now = () => Date.now();

// Outbox has the messages that are on their way. Each is kept as {key, text, at, base, state, receipt, maybe, reason}:
// base is the log's position when it was written, maybe says that it may have been sent without an answer. While the
// page lives it also has: row, sendAt, pause, candidate (the message in the log that is probably it), released (positions
// of those that looked so and were shown), heldAt, acceptedAt, stalled, through (the log's end once the message is in it).
export class Outbox {
  #log;
  #list;
  #follower;
  #announce;
  #edit;
  #mail = []; // in the order in which their receipts are asked for
  #texts = new Map(); // text: messages with it that may come to stand in the log
  #toSend = new Bell();
  #toSettle = new Bell();
  #asking = null; // ends the receipts' wait
  #together = 1; // receipts to ask for together

  constructor(log, { list, follower, announce, edit }) {
    this.#log = log;
    this.#list = list;
    this.#follower = follower;
    this.#announce = announce;
    this.#edit = edit;
  }

  // start takes up what is kept from before, and begins to send and to follow.
  start() {
    for (const message of kept()) this.#adopt(message);
    onOtherTab((message) => this.#changedElsewhere(message), (key) => this.#goneElsewhere(key));
    addEventListener("online", () => {
      for (const message of this.#mail) message.sendAt = 0;
      this.#toSend.ring();
    });
    this.#send();
    this.#settle();
  }

  // write takes a new message, or returns why it cannot.
  write(text) {
    const characters = this.#mail.reduce((sum, m) => sum + m.text.length, text.length);
    if (this.#mail.length >= mostOwn) {
      return `${mostOwn} of your messages are on their way, and this page keeps no more. Wait until some have arrived.`;
    }
    if (characters > mostCharacters) {
      return `With this one, your messages on their way have more than ${mostCharacters.toLocaleString("en")} characters, which is the limit of this page.`;
    }
    const message = { key: newKey(), text, at: now(), base: this.#follower.position ?? 0, state: "sending", receipt: "", reason: "" };
    if (!keep(message)) message.reason = "Your browser does not keep this while it is on its way: do not reload.";
    this.#list.toNewest();
    this.#add(message);
    this.#toSend.ring();
    return "";
  }

  // queued returns how many messages are accepted and not visible, since when the oldest of them is, and whether the
  // database has stopped to take them in.
  queued() {
    const waiting = this.#mail.filter((m) => m.state === "accepted");
    return {
      count: waiting.length,
      for: waiting.reduce((longest, m) => Math.max(longest, now() - m.acceptedAt), 0),
      stalled: waiting.some((m) => m.stalled),
    };
  }

  // claim says whether a message in the log is one of those on their way, as far as can be told by its text. It is held
  // back then until the receipt says more.
  claim(message) {
    const mail = this.#texts.get(message.body);
    if (!mail || this.#list.isOwn(message.position)) return false;
    if (mail.some((m) => m.candidate?.position === message.position)) return true;
    const found = mail.find((m) => !m.candidate && this.#canBe(m, message));
    if (!found) return false;
    found.candidate = message;
    found.heldAt = now();
    if (found.state === "visible") this.#merge(found);
    else this.#hurry();
    return true;
  }

  #canBe(mine, message) {
    return open.has(mine.state) && message.position > mine.base && !mine.released.includes(message.position) &&
      (mine.base > 0 || Date.parse(message.accepted_at) > mine.at - 300_000); // the clocks may differ
  }

  #adopt(message) {
    if (message.state === "visible") return forget(message);
    if (message.state === "sending") message.state = "checking"; // it may have been under way
    if (message.state === "checking") message.maybe = true;
    this.#add(message);
  }

  #add(message) {
    Object.assign(message, { row: this.#list.addOwn(message.text, message.at), sendAt: 0, pause: 1000, candidate: null, released: [], acceptedAt: now() });
    this.#mail.push(message);
    this.#enter(message);
    this.#show(message);
    this.#toSettle.ring();
  }

  #enter(message) {
    if (!this.#texts.has(message.text)) this.#texts.set(message.text, []);
    this.#texts.get(message.text).push(message);
  }

  // remove forgets a message. Its row stays only if it is that of a message in the log now.
  #remove(message) {
    forget(message);
    this.#mail = this.#mail.filter((m) => m !== message);
    const rest = this.#texts.get(message.text).filter((m) => m !== message);
    if (rest.length > 0) this.#texts.set(message.text, rest);
    else this.#texts.delete(message.text);
    this.#release(message);
  }

  #discard(message) {
    this.#remove(message);
    this.#list.removeOwn(message.row);
  }

  // set brings a message a step on, never back, and keeps that.
  #set(message, state, change = {}) {
    if (ranks[state] < ranks[message.state]) state = message.state;
    if (state === "accepted" && message.state !== "accepted") message.acceptedAt = now();
    Object.assign(message, { reason: "" }, change, { state });
    const { key, text, at, base, receipt, maybe, reason } = message;
    keep({ key, text, at, base, state, receipt, maybe, reason });
    this.#show(message);
  }

  #show(message) {
    const edit = ["Edit", () => { this.#edit(message.text); this.#discard(message); }];
    const dismiss = ["Dismiss", () => this.#discard(message)];
    const actions = {
      refused: [["Send again", () => this.#sendAgain(message)], edit],
      rejected: [edit, dismiss],
      unsettled: [edit, dismiss],
    };
    setState(message.row, message.state, message.reason, actions[message.state]);
  }

  // The same key makes pressing twice harmless.
  #sendAgain(message) {
    if (message.state !== "refused") return;
    message.sendAt = 0;
    this.#set(message, "sending");
    this.#toSend.ring();
  }

  // send sends one message after the other, so that they are in the order in which they were written. One whose answer
  // is unknown is sent again later, with the same key, and keeps no other waiting.
  async #send() {
    for (;;) {
      const due = this.#mail.filter((m) => m.state === "sending" || m.state === "checking");
      const next = due.find((m) => m.sendAt <= now());
      if (next) await this.#attempt(next);
      else await this.#toSend.wait(due.reduce((least, m) => Math.min(least, m.sendAt - now()), 60_000));
    }
  }

  async #attempt(message) {
    if (message.maybe && now() - message.at > keyFor) {
      return this.#set(message, "unsettled", { reason: "The server could not be asked for a day whether it has this." });
    }
    try {
      const { body } = await request(`${this.#log}/messages`, {
        method: "POST",
        headers: { "Content-Type": "text/plain; charset=utf-8", "Idempotency-Key": message.key },
        body: message.text,
      });
      this.#set(message, "accepted", { receipt: body.receipt });
      this.#hurry();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#failed(message, error);
    }
  }

  // failed judges an answer that is an error, or no answer. Only an answer of the API, or one that says that the
  // request cannot be taken, says that nothing was stored; and it says nothing of an earlier attempt.
  #failed(message, error) {
    const never = error.status >= 400 && error.status < 500 && error.status !== 408 && error.status !== 429;
    const refused = never || (error.status === 503 && error.type !== "");
    if (refused && !message.maybe) {
      this.#announce(`Not sent: ${error.detail}`);
      return this.#set(message, "refused", { reason: `${error.detail}.` });
    }
    if (never) {
      return this.#set(message, "unsettled", { reason: `It may have been stored, and cannot be sent again: ${error.detail}.` });
    }
    message.sendAt = now() + Math.max(error.retryAfter, error.receipt ? 5000 : 0, message.pause * (0.75 + Math.random() / 2));
    message.pause = Math.min(2 * message.pause, 30_000);
    this.#set(message, "checking", { maybe: true, receipt: error.receipt || message.receipt });
    this.#hurry();
  }

  // hurry has receipts asked for at once.
  #hurry() {
    this.#toSettle.ring();
    this.#asking?.abort();
  }

  // settle asks the receipts of what is on its way: many together while all of them are there, and one by one, in
  // turn, while some are not.
  async #settle() {
    for (;;) {
      this.#letGo();
      for (const message of this.#mail.filter((m) => m.state === "visible")) await this.#place(message);
      const mail = this.#mail.filter((m) => m.receipt && (m.state === "accepted" || m.state === "checking"));
      const likely = mail.filter((m) => m.candidate);
      const group = (likely.length > 0 ? likely : mail).slice(0, this.#together);
      if (group.length === 0) await this.#toSettle.wait(1000);
      else await this.#ask(group, likely.length > 0 ? 1 : waitFor);
    }
  }

  async #ask(group, wait) {
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    const began = now();
    try {
      const { body } = await request(`v1/receipts/${group.map((m) => m.receipt).join(",")}`, { wait, signal });
      if (body.state === "persisted") {
        this.#together = Math.min(2 * this.#together, askedTogether);
        for (const message of group) await this.#persisted(message);
        return;
      }
      this.#notYet(group, body);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.#unanswered(group, error);
    } finally {
      this.#asking = null;
    }
    if (now() - began < 1000) await this.#toSettle.wait(1000);
  }

  #notYet(group, { state, reason }) {
    if (group.length > 1) this.#together = Math.max(1, Math.floor(this.#together / 2));
    else if (state === "rejected") return this.#reject(group[0], reason);
    for (const message of group) {
      message.stalled = state === "stalled";
      this.#release(message);
    }
    this.#mail = [...this.#mail.filter((m) => !group.includes(m)), ...this.#mail.filter((m) => group.includes(m))]; // the others' turn
  }

  #reject(message, reason) {
    this.#announce(`A message was rejected: ${reason}`);
    this.#release(message);
    this.#set(message, "rejected", { reason: `${reason}.` });
  }

  // unanswered judges an error about receipts. Some say that there will never be an answer.
  #unanswered(group, error) {
    if (error.status === 0 || error.status >= 500) return;
    if (group.length > 1) {
      this.#together = 1;
      return;
    }
    const [message] = group;
    this.#release(message);
    const known = message.state === "accepted" ? "It was accepted" : "It may have been accepted";
    const why = { "receipt-expired": "too long ago to say what became of it", "invalid-receipt": "by a server whose data is not there any more" };
    this.#set(message, "unsettled", { reason: `${known}, ${why[error.type] ?? `and then: ${error.detail}`}.`, receipt: "" });
  }

  // persisted says that a message can be read, and finds the one in the log that it is.
  async #persisted(message) {
    if (!this.#mail.includes(message)) return;
    this.#set(message, "visible");
    this.#announce("Your message can be read by everybody now");
    await this.#place(message);
  }

  // place makes a message's row the one in the log. That may not have come yet; and if everything has come that the log
  // had when the message was in it, then it is further down than what is shown, or cleared.
  async #place(message) {
    if (this.#merge(message)) return;
    await this.#follower.read();
    if (!this.#mail.includes(message)) return;
    try {
      message.through ??= (await this.#follower.end(message.receipt)).last;
    } catch {
      return; // it is asked for again
    }
    if (this.#follower.position >= message.through && this.#mail.includes(message) && !this.#merge(message)) this.#discard(message);
  }

  // merge makes one row of a person's message and the one in the log, if that is known.
  #merge(message) {
    const { candidate, row, released } = message;
    if (!candidate && released.length === 0) return false;
    message.candidate = null;
    this.#remove(message);
    if (candidate) {
      this.#list.settle(row, candidate);
    } else {
      this.#list.removeOwn(row);
      this.#list.mark(released[0]);
    }
    return true;
  }

  // letGo stops holding back what nobody could say anything about.
  #letGo() {
    for (const message of this.#mail) {
      if (message.candidate && now() - message.heldAt > holdFor) this.#release(message);
    }
  }

  #release(message) {
    const { candidate } = message;
    if (!candidate) return;
    message.candidate = null;
    message.released.push(candidate.position);
    this.#list.put(candidate);
  }

  // Another tab has the same message. What it has found out holds here too.
  #changedElsewhere(changed) {
    const message = this.#mail.find((m) => m.key === changed.key);
    if (!message || message.state === "visible" || !(ranks[changed.state] >= ranks[message.state])) return;
    const { state, receipt, maybe, reason } = changed;
    if (state === "accepted" && message.state !== "accepted") message.acceptedAt = now();
    if (state !== "visible") Object.assign(message, { state, receipt: receipt || message.receipt, maybe, reason });
    this.#show(message);
    this.#toSend.ring();
    this.#hurry();
  }

  #goneElsewhere(key) {
    const message = this.#mail.find((m) => m.key === key);
    if (message && !open.has(message.state)) this.#discard(message);
  }
}
