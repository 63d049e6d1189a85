// The guestbook: what is written where, and who tells whom.

import { ago, byId, pause, quantity, setText } from "./api.js";
import { Follower } from "./follow.js";
import { MessageList } from "./list.js";
import { Outbox } from "./outbox.js";

const log = "guestbook";
const announceEvery = 5000; // ms
const slow = 3000; // ms after which it is worth saying that messages are waiting

const form = byId("form");
const field = byId("text");
const touch = matchMedia("(hover: none) and (pointer: coarse)"); // a keyboard on the screen has one key for a new line

// What a screen reader says: not more than something now and then.
let news = 0;
let said = [];

function announce(text) {
  if (said.length < 3) said.push(text);
}

async function speak() {
  for (;;) {
    await pause(announceEvery);
    if (news > 0) announce(quantity(news, "new message"));
    if (said.length > 0) byId("announcements").textContent = said.join(". ");
    news = 0;
    said = [];
  }
}

const follower = new Follower(log, {
  begin: (messages) => list.begin(messages),
  messages: (messages) => { news += list.add(messages); },
  log: ({ last, count }) => list.cleared(last - count + 1),
  change: () => status(),
});
const list = new MessageList(
  { heading: byId("messages-heading"), list: byId("messages"), newer: byId("newer"), older: byId("older"), empty: byId("empty") },
  {
    claim: (message) => outbox.claim(message),
    range: (after, through) => follower.range(after, through),
    beginAnew: () => follower.beginAnew(),
    announce,
  },
);
const outbox = new Outbox(log, { list, follower, announce, edit });

// edit gives a text back to the person who wrote it.
function edit(text) {
  field.value = field.value ? `${text}\n${field.value}` : text;
  field.focus();
}

function send() {
  if (field.value.trim() === "") return field.focus();
  const refused = outbox.write(field.value.toWellFormed?.() ?? field.value);
  setText(byId("refused"), refused);
  if (!refused) field.value = "";
  field.focus();
  status();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  if (touch.matches && !event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  send();
});

// status says how the page is connected, and what waits. It says nothing that it does not know.
function status() {
  const [short, long] = connection();
  byId("connection").dataset.mode = follower.mode;
  setText(byId("connection-mode"), short);
  setText(byId("connection-detail"), long);
  const queued = outbox.queued();
  const waiting = queued.count > 0 && (queued.stalled || queued.for > slow);
  byId("queued").hidden = !waiting;
  if (!waiting) return;
  setText(byId("queued-count"), `${quantity(queued.count, "message")} ${queued.count === 1 ? "is" : "are"} safely queued.`);
  setText(byId("queued-detail"), queued.stalled
    ? "The database is not taking them in at the moment. You can go on writing: everything appears when it does."
    : "The database has not taken everything in yet.");
}

function connection() {
  const checked = follower.checkedAt === null ? "" : `Last checked ${ago(performance.now() - follower.checkedAt)} ago.`;
  const fresh = follower.upToDate ? "Up to date." : checked || "Loading the messages …";
  switch (follower.mode) {
    case "live":
      return ["Live", fresh];
    case "asking":
      return ["Refreshing every 2 s", fresh];
    case "offline":
      return follower.problem ? ["Cannot read right now", `${follower.problem}. ${checked} Trying again.`] : ["No connection", `${checked} Trying again.`];
    default:
      return ["Connecting", fresh];
  }
}

function fitKeyboard() {
  field.enterKeyHint = touch.matches ? "enter" : "send";
}

touch.addEventListener("change", fitKeyboard);
fitKeyboard();
field.disabled = byId("send").disabled = false; // without this script, what is written would lead nowhere
setInterval(status, 1000);
outbox.start();
follower.run();
speak();
