// What this person writes: it is kept before it is sent, sent until the answer is known, and followed by its receipt
// until it can be read in the log. A message never goes back a step, and becomes one row, not two.

import { Bell, api } from "./api.js";
import { DrainmarkError, merge, newKey } from "./drainmark.js";
import { lost, never, refused, why } from "./errors.js";
import { forget, keep, kept, onOtherTab } from "./keep.js";
import { take, waiting } from "./turns.js";

const mostOwn = 200; // messages on their way
const mostCharacters = 1_000_000; // of them together: browsers keep some millions
const keyFor = 23 * 3600_000; // ms for which sending again is harmless; the server knows a key for at least 24 hours
const setBack = 5 * 60_000; // ms by which the clock may be before an attempt; more, and nobody knows how long ago that was
const notKept = "Your browser does not keep this while it is on its way: do not reload.";

// ranks are how far a state is: no message goes back to a lower one, nor from one end to another.
const ranks = { sending: 0, refused: 0, checking: 1, accepted: 2, visible: 3, rejected: 3, unsettled: 3 };
const ends = new Set(["visible", "rejected", "unsettled"]);
const unfinished = new Set(["sending", "checking", "accepted"]);
const open = new Set(["sending", "checking", "accepted", "visible"]); // states of what may come to stand in the log
const askedTogether = 50; // receipts in one request
const waitFor = 10_000; // ms that the server may wait for a receipt
const turnEvery = 300; // ms after which it is looked again whether another page has stopped sending
const holdFor = 10_000; // ms for which a message is held back that may be this person's

const now = () => Date.now();

// Outbox has the messages that are on their way. Each is kept as {key, text, at, base, triedAt, state, receipt, id, maybe,
// reason}: base is the log's position when it was written, id the one that it will have in the log, maybe says that it
// may have been sent without an answer, and triedAt is before the first attempt of which that is true. While the page
// lives it also has: row, sendAt, pause, candidate (the message in the log that is probably it), released ({id, position}
// of others that can be it and are shown), heldAt, acceptedAt, stalled, through (the log's end once the message is in it).
//
// Which message in the log it is, its id says; then it is visible, for there it is. Where an attempt had no answer there may
// be another id, that nobody knows: then it is found by its text and where it can stand, and the receipt says what it is.
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
    const at = now();
    const message = { key: newKey(), text, at, base: this.#follower.position ?? 0, triedAt: at, state: "sending", receipt: "", id: "", reason: "" };
    this.#keep(message);
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

  // claim says whether a message in the log is one of those on their way, as far as can be told. It is held back then
  // until the receipt says more.
  claim(message) {
    const mail = this.#texts.get(message.text);
    if (!mail || this.#list.isOwn(message.position)) return false;
    if (mail.some((m) => m.candidate?.position === message.position)) return true;
    const all = mail.filter((m) => this.#canBe(m, message));
    const surely = all.find((m) => this.#is(m, message));
    const found = surely ?? all.find((m) => !m.candidate);
    if (!found) {
      for (const m of all) m.released.push({ id: message.id, position: message.position });
      return false;
    }
    if (surely) this.#release(found);
    found.candidate = message;
    found.heldAt = now();
    if (surely) this.#there(found);
    else if (found.state === "visible") this.#merge(found);
    else this.#hurry();
    return true;
  }

  // is says whether a message in the log is this one, by its id; null if that does not tell.
  #is(mine, message) {
    if (mine.id !== "" && mine.id === message.id) return true;
    return mine.id === "" || mine.maybe ? null : false;
  }

  #canBe(mine, message) {
    if (!open.has(mine.state) || mine.released.some((other) => other.position === message.position)) return false;
    return this.#is(mine, message) ?? this.#mayBe(mine, message);
  }

  // mayBe says whether a message in the log may be this one, by where it stands.
  #mayBe(mine, message) {
    return message.position > mine.base && message.position <= (mine.through ?? Infinity) &&
      (mine.base > 0 || Date.parse(message.acceptedAt) > mine.at - 300_000); // the clocks may differ
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

  // set brings a message a step on, never back, and keeps that. What is said of one that has been settled or given up
  // meanwhile comes too late.
  #set(message, state, change = {}) {
    if (!this.#mail.includes(message) || ends.has(message.state)) return;
    if (ranks[state] < ranks[message.state]) state = message.state;
    if (state === "accepted" && message.state !== "accepted") message.acceptedAt = now();
    Object.assign(message, { reason: "" }, change, { state });
    this.#keep(message);
    this.#show(message);
  }

  // keep writes a message down. Where that does not work, whoever wrote it is told for as long as a reload would lose it.
  #keep(message) {
    const { key, text, at, base, triedAt, state, receipt, id, maybe, reason } = message;
    const isKept = keep({ key, text, at, base, triedAt, state, receipt, id, maybe, reason });
    if (!isKept && unfinished.has(state)) message.reason ||= notKept;
  }

  #show(message) {
    const edit = ["Edit", () => { this.#edit(message.text); this.#discard(message); }];
    const dismiss = ["Dismiss", () => this.#discard(message)];
    const actions = {
      refused: [["Send again", () => this.#sendAgain(message)], edit],
      rejected: [edit, dismiss],
      unsettled: [edit, dismiss],
    };
    this.#list.setState(message.row, message.state, message.reason, actions[message.state]);
  }

  // The same key makes pressing twice harmless.
  #sendAgain(message) {
    if (message.state !== "refused") return;
    message.sendAt = 0;
    this.#set(message, "sending", { triedAt: now() });
    this.#toSend.ring();
  }

  // send sends one message after the other, so that they are in the order in which they were written. One whose answer
  // is unknown is sent again later, with the same key, and keeps no other waiting.
  async #send() {
    for (;;) {
      const due = this.#mail.filter((m) => m.state === "sending" || m.state === "checking");
      const next = due.find((m) => m.sendAt <= now());
      if (next) (await take("send", () => this.#attempt(next))) || (await this.#toSend.wait(turnEvery));
      else await this.#toSend.wait(due.reduce((least, m) => Math.min(least, m.sendAt - now()), 60_000));
    }
  }

  async #attempt(message) {
    if (!message.maybe) message.triedAt = now();
    const since = now() - message.triedAt;
    if (since > keyFor || since < -setBack) {
      return this.#set(message, "unsettled", { reason: "The server could not be asked for a day whether it has this." });
    }
    try {
      const { receipt, id = "" } = await api.append(this.#log, { body: message.text, key: message.key });
      this.#set(message, "accepted", { receipt, id });
      setTimeout(() => this.#compare(message)); // accepted it is first, however fast the rest was
      this.#hurry();
    } catch (error) {
      if (!(error instanceof DrainmarkError)) throw error;
      this.#failed(message, error);
    }
  }

  // compare looks again at what can be a message, now that its id is known. What was held back for it may be another one of
  // this person's.
  #compare(message) {
    const { candidate, released } = message;
    if (!this.#mail.includes(message)) return;
    if ([candidate, ...released].some((other) => other && this.#is(message, other))) return this.#there(message);
    if (!candidate || this.#is(message, candidate) === null) return;
    message.candidate = null;
    if (!this.claim(candidate)) this.#list.put(candidate);
  }

  // there says of a message that it has been seen in the log. It gets its place with those whose receipts say so.
  #there(message) {
    if (message.state === "visible") return;
    this.#set(message, "visible");
    this.#announce("Your message can be read by everybody now");
    this.#hurry();
  }

  // failed judges an answer that is an error, or no answer. That nothing was stored now says nothing of an earlier
  // attempt.
  #failed(message, error) {
    if (refused(error) && !message.maybe) {
      this.#announce(`Not sent: ${why(error)}`);
      return this.#set(message, "refused", { reason: `${why(error)}.` });
    }
    if (never(error)) {
      return this.#set(message, "unsettled", { reason: `It may have been stored, and cannot be sent again: ${why(error)}.` });
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
      else await this.#ask(group, likely.length > 0 ? 1000 : waitFor);
    }
  }

  async #ask(group, wait) {
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    const began = now();
    let least = 1000; // ms between two questions
    try {
      const receipts = merge(...group.map((m) => m.receipt));
      const status = await waiting(wait, (most) => api.status(receipts, { wait: most, signal }));
      if (status.state === "persisted") {
        this.#together = Math.min(2 * this.#together, askedTogether);
        for (const message of group) await this.#persisted(message);
        return;
      }
      this.#notYet(group, status);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof DrainmarkError)) throw error;
      this.#unanswered(group, error);
      least = Math.min(Math.max(least, error.retryAfter), 30_000);
    } finally {
      this.#asking = null;
    }
    if (now() - began < least) await this.#toSettle.wait(least);
  }

  #notYet(group, { state, reason }) {
    if (group.length > 1) this.#together = Math.max(1, Math.floor(this.#together / 2));
    else if (state === "rejected") return this.#reject(group[0], reason);
    for (const message of group) {
      message.stalled = state === "stalled";
      if (message.state !== "visible") this.#release(message);
    }
    this.#othersTurn(group);
  }

  #othersTurn(group) {
    this.#mail = [...this.#mail.filter((m) => !group.includes(m)), ...this.#mail.filter((m) => group.includes(m))];
  }

  #reject(message, reason) {
    this.#announce(`A message was rejected: ${reason}`);
    this.#release(message);
    this.#set(message, "rejected", { reason: `${reason}.` });
  }

  // unanswered judges an error about receipts. Only two say that there will never be an answer; after any other one
  // they are asked for again.
  #unanswered(group, error) {
    if (group.length > 1 && error.status >= 400 && error.status < 500) this.#together = 1; // one of them may be why
    if (group.length > 1 || !lost(error)) return this.#othersTurn(group);
    const [message] = group;
    this.#release(message);
    const known = message.state === "accepted" ? "It was accepted" : "It may have been accepted";
    const reasons = { "receipt-expired": "too long ago to say what became of it", "invalid-receipt": "by a server whose data is not there any more" };
    this.#set(message, "unsettled", { reason: `${known}, ${reasons[error.kind]}.`, receipt: "" });
  }

  // persisted says that a message can be read, and finds the one in the log that it is.
  async #persisted(message) {
    if (!this.#mail.includes(message)) return;
    this.#there(message);
    await this.#place(message);
  }

  // place makes a message's row the one in the log. That may not have come yet; and if everything has come that the log
  // had when the message was in it, then it is further down than what is shown, or cleared.
  async #place(message) {
    const certain = message.candidate && this.#is(message, message.candidate);
    if ((certain || message.released.length === 0) && this.#merge(message)) return;
    await this.#follower.read();
    if (!this.#mail.includes(message)) return;
    try {
      message.through ??= (await waiting(5000, (wait) => this.#follower.end(message.receipt, wait))).last;
    } catch {
      return; // it is asked for again
    }
    if (this.#follower.position >= message.through && this.#mail.includes(message)) this.#choose(message);
  }

  // choose makes a message that of the messages with its text that has its id, or, if that does not tell, that is nearest
  // to the log's end when it was in it.
  #choose(message) {
    const { through, candidate } = message;
    const others = message.released.filter((other) => other.position <= through && !this.#list.isOwn(other.position));
    const position = Math.max(0, ...others.filter((other) => this.#is(message, other) !== false).map((other) => other.position));
    if (candidate?.position > position && candidate.position <= through) return this.#merge(message);
    this.#discard(message);
    if (position > 0) this.#list.mark(position);
  }

  // merge makes one row of a person's message and the one in the log that is held back for it, if there is one.
  #merge(message) {
    const { candidate, row } = message;
    if (!candidate) return false;
    message.candidate = null;
    this.#remove(message);
    this.#list.settle(row, candidate);
    return true;
  }

  // letGo stops holding back what nobody could say anything about.
  #letGo() {
    for (const message of this.#mail) {
      if (message.candidate && message.state !== "visible" && now() - message.heldAt > holdFor) this.#release(message);
    }
  }

  #release(message) {
    const { candidate } = message;
    if (!candidate) return;
    message.candidate = null;
    message.released.push({ id: candidate.id, position: candidate.position });
    this.#list.put(candidate);
  }

  // Another tab has the same message. What it has found out holds here too.
  #changedElsewhere(changed) {
    const message = this.#mail.find((m) => m.key === changed.key);
    if (!message || ends.has(message.state) || !(ranks[changed.state] >= ranks[message.state])) return;
    const { state, receipt, id, maybe, reason, triedAt = message.triedAt } = changed;
    if (state === "accepted" && message.state !== "accepted") message.acceptedAt = now();
    if (state !== "visible") Object.assign(message, { state, receipt: receipt || message.receipt, id: id || message.id, maybe, reason, triedAt });
    this.#show(message);
    this.#toSend.ring();
    this.#hurry();
  }

  #goneElsewhere(key) {
    const message = this.#mail.find((m) => m.key === key);
    if (message && !open.has(message.state)) this.#discard(message);
  }
}
