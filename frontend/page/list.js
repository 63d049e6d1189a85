// The list of messages, newest first. It holds a stretch of the log without gaps, of bounded length, and above that
// what this person has written and is on its way. Who has scrolled down reads on in peace: what comes and goes above
// does not move the rows that are read. At the top, new rows push the others down.

import { quantity, setText } from "./api.js";
import { makeOwnRow, makeRow, place, setState } from "./rows.js";

const mostRows = 300; // of the log, in the document
const olderPage = 50; // messages that are loaded at once
const nearTop = 48;   // px that count as not scrolled
const frameWithin = 500; // ms

export class MessageList {
  #parts; // elements: heading, list, newer, older, empty
  #claim; // says of a message whether it is one of this person's, on its way: they have a row already
  #own = new Set(); // positions of this person's messages
  #queue = []; // messages that have no row yet, oldest first
  #unseen = 0; // messages since somebody scrolled away
  #gap = false; // messages between the rows and the queue have been dropped
  #detached = false; // messages between the rows and now are to be loaded: older ones have taken their place
  #through = 0; // the position up to which nothing is in the queue or dropped
  #count = 0; // rows of the log
  #first = 1; // the log's first position that has not been cleared
  #from = 1; // where the stretch begins: at its oldest row, or before it at what this person has on its way
  #due = false; // something is to be shown
  #begun = false;
  #loading = false;

  // range loads messages, beginAnew has begin called with the newest ones, announce tells people who cannot see.
  constructor(parts, { claim, range, beginAnew, announce }) {
    this.#parts = parts;
    this.#claim = claim;
    parts.older.addEventListener("click", () => this.#loadOlder(range, announce));
    parts.newer.addEventListener("click", () => this.#goToNewest(beginAnew));
    addEventListener("scroll", () => this.#queue.length > 0 && this.#schedule(), { passive: true });
  }

  // begin replaces all rows of the log, but not before their reader's eyes, if the log is the same.
  begin(messages) {
    this.#begun = true;
    const others = messages.filter((m) => !this.#claim(m));
    if (scrollY > nearTop && this.#continues(messages)) {
      const there = new Set([...this.#parts.list.children].map((row) => row.position));
      this.#queue = [];
      this.#unseen = Math.max(0, messages[0].position - this.#through - 1);
      this.#gap = this.#unseen > 0;
      this.#enqueue(others.filter((m) => m.position > this.#through && !there.has(m.position)));
      return this.#tidy();
    }
    this.#removeRows();
    this.#queue = [];
    this.#unseen = 0;
    this.#gap = this.#detached = false;
    this.#through = messages.at(-1)?.position ?? 0;
    this.#from = messages[0]?.position ?? this.#first;
    this.#insert(others);
    this.#tidy();
  }

  // continues says whether the newest messages of the log are of the same log as the rows: newer than those, or where
  // they overlap the same ones.
  #continues(messages) {
    const newest = this.#newest();
    if (!newest || messages.length === 0) return false;
    const same = messages.find((m) => m.position === newest.position);
    return same ? same.id === newest.messageId : newest.position < messages[0].position;
  }

  // add takes new messages in, oldest first, and returns how many of them are other people's.
  add(messages) {
    const others = messages.filter((m) => !this.#claim(m));
    if (others.length === 0 && this.#queue.length === 0) this.#through = messages.at(-1).position;
    this.#enqueue(others);
    return others.length;
  }

  // put takes one message in that was claimed and is not this person's after all.
  put(message) {
    if (this.#detached || message.position < this.#from) return;
    this.#inPlace(() => this.#insert([message]));
    this.#tidy();
  }

  // cleared removes what the log does not have any more.
  cleared(first) {
    this.#first = first;
    this.#from = Math.max(this.#from, first);
    while (this.#oldest() && this.#oldest().position < first) this.#remove(this.#oldest());
    this.#queue = this.#queue.filter((m) => m.position >= first);
    this.#tidy();
  }

  // addOwn shows on top what this person has just written.
  addOwn(text, at) {
    const row = makeOwnRow(text, at);
    this.#parts.list.prepend(row);
    this.#tidy();
    return row;
  }

  removeOwn(row) {
    this.#inPlace(() => row.remove(), row);
    this.#tidy();
  }

  // setState shows how a person's message is, why, and what can be done about it. The reason and the actions take room.
  setState(row, state, reason, actions) {
    this.#inPlace(() => setState(row, state, reason, actions));
  }

  // settle makes a person's row that of a message in the log, at the place that it has there.
  settle(row, message) {
    this.isOwn(message.position, true);
    if (this.#detached || message.position < this.#from) return this.removeOwn(row);
    this.#inPlace(() => {
      place(row, message);
      setState(row, "visible");
      const next = this.#behind(message.position, row);
      if (row.nextElementSibling !== next) this.#parts.list.insertBefore(row, next);
    }, row);
    this.#count++;
    this.#tidy();
  }

  // mark says of a message that has a row that it is this person's.
  mark(position) {
    this.isOwn(position, true);
    const row = this.#behind(position + 1);
    if (row?.position === position) this.#inPlace(() => setState(row, "visible"));
  }

  // isOwn says whether a position is that of this person's message, which can be set.
  isOwn(position, set = false) {
    if (set) this.#own.add(position);
    if (this.#own.size > 2 * mostRows) this.#own.delete(this.#own.values().next().value);
    return this.#own.has(position);
  }

  // toNewest makes room for what this person is about to write: it goes where the newest messages are.
  toNewest() {
    if (!this.#detached) scrollTo({ top: 0 });
    else this.#parts.newer.click();
  }

  #enqueue(messages) {
    if (messages.length === 0) return;
    this.#unseen += messages.length;
    for (const message of messages) this.#queue.push(message);
    if (this.#queue.length > mostRows) {
      this.#queue.splice(0, this.#queue.length - mostRows);
      this.#gap = true;
    }
    this.#schedule();
  }

  // schedule shows what has come with the next frame, or soon: a window that is covered may have no frames.
  #schedule() {
    if (this.#due) return;
    this.#due = true;
    const show = () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      this.#due = false;
      if (!this.#detached && scrollY <= nearTop) this.#flush();
      this.#tidy();
    };
    const frame = requestAnimationFrame(show);
    const timer = setTimeout(show, frameWithin);
  }

  #flush() {
    const messages = this.#queue;
    this.#queue = [];
    this.#unseen = 0;
    // Where the log was cleared up to its end, nothing is left of the queue, nor of what was before the gap.
    if (this.#gap && messages.length > 0) {
      while (this.#oldest()?.position < messages[0].position) this.#remove(this.#oldest());
      this.#from = messages[0].position;
    }
    this.#gap = false;
    this.#through = messages.at(-1)?.position ?? this.#through;
    this.#insert(messages);
    if (this.#count <= mostRows) return;
    while (this.#count > mostRows) this.#remove(this.#oldest());
    this.#from = this.#oldest()?.position ?? this.#from;
  }

  // insert gives messages rows, oldest first, at the places that they have in the log.
  #insert(messages) {
    if (messages.length === 0) return;
    let next = this.#behind(messages.at(-1).position);
    for (let i = messages.length - 1; i >= 0; i--) {
      while (next && next.position >= messages[i].position) next = next.nextElementSibling;
      this.#parts.list.insertBefore(makeRow(messages[i], this.isOwn(messages[i].position)), next);
      this.#count++;
    }
  }

  // behind returns the first row of the log, other than one, that is older than a position.
  #behind(position, except = null) {
    let row = this.#parts.list.firstElementChild;
    while (row && (row === except || row.position === undefined || row.position >= position)) row = row.nextElementSibling;
    return row;
  }

  #oldest() {
    const row = this.#parts.list.lastElementChild;
    return row?.position === undefined ? null : row;
  }

  #newest() {
    return this.#behind(Infinity);
  }

  #remove(row) {
    row.remove();
    this.#count--;
  }

  #removeRows() {
    while (this.#oldest()) this.#remove(this.#oldest());
  }

  async #goToNewest(beginAnew) {
    scrollTo({ top: 0 });
    if (this.#detached) await beginAnew();
    this.#parts.heading.focus({ preventScroll: true });
    this.#schedule();
  }

  async #loadOlder(range, announce) {
    const from = this.#from;
    if (this.#loading || from <= this.#first) return;
    this.#loading = true;
    setText(this.#parts.older, "Loading …");
    try {
      const through = from - 1;
      const messages = await range(Math.max(this.#first - 1, through - olderPage), through);
      if (messages.length === 0) this.#first = from; // cleared meanwhile
      else if (from === this.#from) {
        this.#from = messages[0].position;
        this.#append(messages.filter((m) => !this.#claim(m)), this.#oldest());
      }
      announce(`${quantity(messages.length, "older message")} shown`);
    } catch {
      announce("The older messages cannot be loaded right now");
    } finally {
      this.#loading = false;
      this.#tidy();
    }
  }

  // append puts older messages below, and takes newer ones away if that makes too many.
  #append(messages, anchor) {
    this.#hold(anchor, () => {
      for (const message of messages.reverse()) {
        this.#parts.list.append(makeRow(message, this.isOwn(message.position)));
        this.#count++;
      }
      while (this.#count > mostRows) {
        this.#remove(this.#newest());
        this.#detached = true;
      }
    });
  }

  // inPlace changes rows, one of which may go elsewhere, under the eyes of who has scrolled down.
  #inPlace(change, going = null) {
    if (scrollY <= nearTop) return change();
    const rows = [...this.#parts.list.children].filter((row) => row !== going);
    this.#hold(rows.find((row) => row.getBoundingClientRect().bottom > 0) ?? rows.at(-1), change);
  }

  // hold changes rows, and keeps one of them where it is on the screen. The browser would do so too, but not in all
  // cases: see the style.
  #hold(row, change) {
    const before = row?.getBoundingClientRect().top;
    change();
    if (row?.isConnected) scrollBy({ top: row.getBoundingClientRect().top - before, behavior: "instant" });
  }

  // tidy brings what is around the rows into line with them.
  #tidy() {
    const { list, older, newer, empty } = this.#parts;
    older.hidden = this.#from <= this.#first;
    if (!this.#loading) setText(older, "Show older messages");
    empty.hidden = !this.#begun || list.childElementCount > 0;
    const waiting = this.#queue.length > 0 ? this.#unseen : 0;
    newer.hidden = !this.#detached && waiting === 0;
    if (waiting > 0) setText(newer, quantity(waiting, "new message"));
    else if (this.#detached) setText(newer, "Go to the newest messages");
  }
}
