// The dead letters of the flow page: the list, and a dialog to look at one, have it tried again, or give it up.

import { api, byId, element, pause, setText } from "./api.js";
import { DrainmarkError } from "./drainmark.js";
import { lost, refused, why } from "./errors.js";
import { answer } from "./flow-view.js";
import { waiting } from "./turns.js";

const pageSize = 20; // letters that are shown at first, and that come with "Show more"
const searchSize = 1000; // letters of a page at most; the server may cut it shorter
const allEvery = 60_000; // ms after which all letters that are shown are asked for again, not only the first ones
const patience = 60_000; // ms for which an outcome is asked for

// timeText writes a time of the API's, or that there is none.
const timeText = (text) => (text ? new Date(text).toLocaleString("en-GB") : "unknown");

// bodyText returns a letter's content as text.
function bodyText(letter) {
  if (letter.text !== null) return letter.text;
  if (letter.bytes !== null) return `(not text; in base64) ${btoa(Array.from(letter.bytes, (byte) => String.fromCharCode(byte)).join(""))}`;
  return "(there is no record to show)";
}

// headersText returns a letter's headers, each in a line. Those of what could not be read are not known.
function headersText({ headers, bytes, undecoded }) {
  if (headers) return Object.entries(headers).map(([name, value]) => `${name}: ${value}`).join("\n");
  return undecoded || bytes === null ? "unknown" : "none";
}

// excerpt is a letter in one line.
function excerpt({ text }) {
  if (text === null) return "(not text)";
  return text.split("\n", 1)[0].slice(0, 120) || "(empty)";
}

// whyText says in one line what a letter is of, by whom it was sent if that is known, and why it was set aside.
function whyText({ log, principal, reason }) {
  return `${log || "unknown log"}${principal ? ` by ${principal}` : ""}: ${reason}`;
}

const questions = {
  retry: "Have it tried again? It goes through the queue once more. If the database takes it now, it stands at the end of its log.",
  discard: "Give it up? Its content is deleted for good. Whoever holds its receipt is still told why it was rejected.",
};

// same says whether two letters are the same and look so.
const same = (a, b) => a?.id === b.id && a.attempts === b.attempts;

export class Letters {
  #letters = []; // what is shown
  #next = null; // where the list goes on
  #allAt = -Infinity; // when all that is shown was asked for
  #asked = Promise.resolve(); // one question after the other
  #dialog = new LetterDialog(() => this.reload());

  constructor() {
    byId("letters-reload").addEventListener("click", () => this.reload());
    byId("letters-more").addEventListener("click", () => this.#ask(() => this.#more()));
  }

  // reload asks for all letters that are shown.
  reload() {
    return this.#ask(() => this.#load(Math.max(pageSize, this.#letters.length)));
  }

  // check asks for the first letters only, because letters can be long, and for the others if those have changed, or now
  // and then.
  check() {
    return this.#ask(async () => {
      const shown = this.#letters.length;
      if (shown > pageSize && performance.now() - this.#allAt > allEvery) return this.#load(shown);
      const { letters: first, next } = await api.deadLettersPage({ limit: pageSize });
      if (next === null || shown <= first.length) return this.#take(first, next);
      if (!first.every((letter, i) => same(this.#letters[i], letter))) return this.#load(shown);
      this.#show();
    });
  }

  #ask(question) {
    this.#asked = this.#asked.then(question).catch((error) => this.#fail(error));
    return this.#asked;
  }

  // load asks for so many letters, in as many pages as the server makes of them.
  async #load(wanted) {
    this.#allAt = performance.now();
    const letters = [];
    let next = null;
    do {
      const page = await api.deadLettersPage({ after: next ?? "", limit: Math.min(searchSize, wanted - letters.length) });
      letters.push(...page.letters);
      next = page.next;
    } while (next !== null && letters.length < wanted);
    this.#take(letters, next);
  }

  async #more() {
    if (this.#next === null) return;
    const page = await api.deadLettersPage({ after: this.#next, limit: pageSize });
    const first = this.#letters.length;
    this.#take([...this.#letters, ...page.letters], page.next);
    byId("letters").children[first]?.querySelector("button").focus();
  }

  #take(letters, next) {
    [this.#letters, this.#next] = [letters, next];
    this.#show();
  }

  #fail(error) {
    const old = this.#letters.length > 0 ? " The list is an old one." : "";
    setText(byId("letters-none"), `The dead letters are not known now: ${why(error)}.${old}`);
  }

  // show shows the list. Items of letters that were there before stay, and with them the focus.
  #show() {
    const box = byId("letters");
    const before = new Map([...box.children].map((item) => [item.dataset.id, item]));
    const items = this.#letters.map((letter) => this.#item(before.get(letter.id), letter));
    if (items.length !== box.children.length || items.some((item, i) => item !== box.children[i])) {
      const focused = box.contains(document.activeElement) ? document.activeElement : null;
      box.replaceChildren(...items);
      if (focused) (focused.isConnected ? focused : byId("letters-title")).focus({ preventScroll: true });
    }
    byId("letters-more").hidden = this.#next === null;
    setText(byId("letters-none"), items.length === 0 ? "There are none." : "");
  }

  #item(item, letter) {
    if (item?.dataset.attempts === String(letter.attempts)) return item;
    const at = element("span", { className: "visually-hidden", textContent: ` at ${letter.id}` });
    const look = element("button", { className: "button", type: "button" }, "Look", at);
    look.addEventListener("click", () => this.#dialog.open(letter));
    const made = element("li", {},
      element("div", { className: "what" },
        element("p", { className: "excerpt", textContent: excerpt(letter) }),
        element("p", { className: "why", textContent: whyText(letter) })),
      look);
    [made.dataset.id, made.dataset.attempts] = [letter.id, letter.attempts];
    return made;
  }
}

// NotDone is that what was chosen has certainly not been done.
class NotDone extends Error {
  constructor(error) {
    super(why(error));
    this.status = error.status;
  }
}

// LetterDialog shows one letter, and settles it.
class LetterDialog {
  #dialog = byId("letter");
  #letter = null;
  #chosen = ""; // retry or discard
  #maybe = false; // something has been sent of which it is not known whether it was done
  #settling = null; // the AbortController of what is under way
  #settled;

  constructor(settled) {
    this.#settled = settled;
    byId("letter-close").addEventListener("click", () => this.#dialog.close());
    byId("letter-retry").addEventListener("click", () => this.#confirm("retry"));
    byId("letter-discard").addEventListener("click", () => this.#confirm("discard"));
    byId("letter-no").addEventListener("click", () => this.#back());
    byId("letter-yes").addEventListener("click", () => this.#settle());
    this.#dialog.addEventListener("close", () => {
      this.#settling?.abort(); // what was sent is done all the same
      this.#settled();
    });
  }

  open(letter) {
    this.#letter = letter;
    this.#maybe = false;
    const facts = [
      ["Log", letter.log || "unknown"], ["Reason", letter.reason], ["Accepted", timeText(letter.acceptedAt)],
      ["Set aside", timeText(letter.setAsideAt)], ["Attempts", String(letter.attempts)],
      ["Content type", letter.contentType || "unknown"], ["Headers", headersText(letter)],
      ["Idempotency key", letter.key || "none"], ["Sent by", letter.principal || "unknown"],
      ["Partition", String(letter.partition)], ["Id", letter.id],
    ];
    byId("letter-facts").replaceChildren(...facts.flatMap(([name, fact]) => [element("dt", {}, name), element("dd", {}, fact)]));
    setText(byId("letter-body"), bodyText(letter));
    byId("letter-answer").replaceChildren();
    byId("letter-choose").hidden = false;
    byId("letter-confirm").hidden = true;
    this.#dialog.showModal();
    byId("letter-title").focus();
  }

  #confirm(chosen) {
    this.#chosen = chosen;
    setText(byId("letter-question"), questions[chosen]);
    setText(byId("letter-yes"), chosen === "retry" ? "Yes, try again" : "Yes, discard it");
    byId("letter-yes").className = `button ${chosen === "retry" ? "primary" : "danger"}`;
    byId("letter-answer").replaceChildren();
    byId("letter-choose").hidden = true;
    byId("letter-confirm").hidden = false;
    byId("letter-no").focus();
  }

  #back() {
    byId("letter-choose").hidden = false;
    byId("letter-confirm").hidden = true;
    byId(`letter-${this.#chosen}`).focus();
  }

  // settle sends what was chosen, and says what came of it.
  async #settle() {
    const letter = this.#letter;
    const settling = new AbortController();
    this.#settling = settling;
    byId("letter-confirm").hidden = true;
    byId("letter-close").focus();
    this.#say("waiting", "sent", "It goes through the queue …");
    const signal = AbortSignal.any([settling.signal, AbortSignal.timeout(patience)]);
    try {
      const said = await this.#persist(await this.#send(letter, signal), signal);
      if (this.#chosen === "discard") this.#say("good", "discarded", "Its content is deleted.");
      else this.#outcome(said);
    } catch (error) {
      if (!settling.signal.aborted) this.#failed(error, signal);
    }
  }

  // failed says what is known after an error, which may be only that nothing is.
  #failed(error, signal) {
    const notDone = error instanceof NotDone;
    if (notDone) this.#say("bad", this.#maybe ? "not done again" : "not done", `${error.message}.`);
    else if (signal.aborted) this.#say("unknown", "not yet", "It was sent. What came of it is not known yet.");
    else this.#say("unknown", "not known", `It may have been done: ${why(error)}. To send it again is harmless.`);
    this.#maybe ||= !notDone;
    byId("letter-choose").hidden = notDone && (error.status === 404 || error.status === 409);
  }

  // send has a letter retried or discarded, and returns what is said of that. Sending it twice is harmless.
  async #send({ id }, signal) {
    const settle = (wait) => (this.#chosen === "retry" ? api.retryDeadLetter : api.discardDeadLetter).call(api, id, { wait, signal });
    try {
      return await waiting(5000, settle);
    } catch (error) {
      if (error.receipt) return { receipt: error.receipt, state: "pending" };
      throw refused(error) ? new NotDone(error) : error;
    }
  }

  // persist waits until what was sent is persisted, or rejected, and returns what is said then.
  async #persist(said, signal) {
    while (said.state !== "persisted" && said.state !== "rejected") {
      if (said.state === "stalled") this.#say("waiting", "waits", `${said.reason}. Asking on …`);
      else this.#say("waiting", "waits", "It is accepted, and waits in the queue. Asking on …");
      await pause(500, signal);
      signal.throwIfAborted();
      said = await this.#ask(said, signal);
    }
    return said;
  }

  // ask asks for a receipt once more. While there is no answer, what was said before still holds. It fails when there
  // will never be one.
  async #ask(said, signal) {
    try {
      return await waiting(5000, (wait) => api.status(said.receipt, { wait, signal }));
    } catch (error) {
      if (!(error instanceof DrainmarkError) || lost(error)) throw error;
      return said;
    }
  }

  // outcome says what a retry has come to: its receipt says rejected if the database has refused the record again, or
  // somebody has given it up meanwhile.
  #outcome({ state, reason }) {
    if (state === "persisted") this.#say("good", "persisted again", "The database has taken it: it is in its log now.");
    else if (reason.startsWith("discarded")) this.#say("bad", "discarded", "Somebody else has discarded it meanwhile.");
    else this.#say("bad", "refused again", `${reason}.`);
  }

  #say(state, word, text) {
    answer("letter-answer", state, word, text);
  }
}
