// One row of the list: a message, or what this person has written and is on its way.

import { element, setText } from "./api.js";

const longText = 1200; // characters from which on a message is folded
const longLines = 14;
const textual = /^\s*(text\/|application\/(json|x-www-form-urlencoded)\b|$)/i;

const today = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const otherDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

// labels are what a state is called, and how it looks.
const labels = {
  sending: ["Sending", "moving", "On its way to the server"],
  checking: ["Checking", "waiting", "The server's answer did not arrive; finding out whether it has the message"],
  accepted: ["Accepted", "waiting", "Safely stored in the queue; on its way to the database"],
  visible: ["Visible", "good", "In the database; everybody can read it"],
  refused: ["Not sent", "bad", "The server did not take it; nothing was stored"],
  rejected: ["Rejected", "bad", "It was accepted, but cannot be put into the database"],
  unsettled: ["Not known", "bad", "It cannot be found out any more what became of it"],
};

// textOf returns a message as text: what it says if it is text, else what it is.
function textOf(message) {
  if (message.erased) return "(erased)";
  if (isText(message)) return message.text;
  return `(${message.contentType.split(";")[0].trim().slice(0, 80) || "not text"}, ${sizeOf(message)})`;
}

// isText says whether a message is shown as it was written.
function isText(message) {
  return !message.erased && message.text !== null && textual.test(message.contentType);
}

function sizeOf(message) {
  const bytes = message.bytes.length;
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// makeRow makes the row of a message in the log.
export function makeRow(message, own) {
  const row = make(textOf(message), message.acceptedAt, isText(message));
  place(row, message);
  if (own) setState(row, "visible");
  return row;
}

// makeOwnRow makes the row of what was just written.
export function makeOwnRow(text, at) {
  return make(text, new Date(at).toISOString(), true);
}

// place makes a row that of a message in the log.
export function place(row, message) {
  row.position = message.position;
  row.messageId = message.id;
  row.dataset.position = message.position;
  showTime(row.querySelector("time"), message.acceptedAt);
}

function make(text, at, plain) {
  const body = element("p", { className: plain ? "text" : "text other", dir: "auto", textContent: text });
  const time = element("time");
  showTime(time, at);
  const meta = element("div", { className: "meta" }, time);
  const row = element("li", { className: "message" }, body, meta);
  if (text.length > longText || lines(text) > longLines) fold(body, meta);
  return row;
}

function lines(text) {
  let n = 1;
  for (let at = text.indexOf("\n"); at >= 0 && n <= longLines; at = text.indexOf("\n", at + 1)) n++;
  return n;
}

// fold shows only the beginning of a long text, until somebody wants more.
function fold(body, meta) {
  body.classList.add("folded");
  const more = element("button", { type: "button", className: "button quiet", textContent: "Show all" });
  more.setAttribute("aria-expanded", "false");
  more.addEventListener("click", () => {
    const folded = body.classList.toggle("folded");
    more.textContent = folded ? "Show all" : "Show less";
    more.setAttribute("aria-expanded", String(!folded));
  });
  meta.append(more);
}

function showTime(time, at) {
  const date = new Date(at);
  if (time.dateTime === at || Number.isNaN(date.getTime())) return;
  time.dateTime = at;
  setText(time, (date.toDateString() === new Date().toDateString() ? today : otherDay).format(date));
}

// setState shows a state, why it is so, and what can be done: pairs of a word and a function.
export function setState(row, state, reason = "", actions = []) {
  if (row.dataset.state === state && row.reason === reason) return;
  row.dataset.state = state;
  row.reason = reason;
  const [label, look, meaning] = labels[state];
  const meta = row.querySelector(".meta");
  let badge = meta.querySelector(".badge");
  if (!badge) meta.append((badge = element("span")));
  badge.className = `badge ${look}`;
  badge.title = meaning;
  setText(badge, label);
  row.querySelector(".reason")?.remove();
  if (!reason && actions.length === 0) return;
  const buttons = actions.map(([word, act]) => {
    const button = element("button", { type: "button", className: "button quiet", textContent: word });
    button.addEventListener("click", act);
    return button;
  });
  const sentence = reason.charAt(0).toUpperCase() + reason.slice(1);
  row.append(element("div", { className: "reason" }, element("span", { textContent: sentence }), ...buttons));
}
