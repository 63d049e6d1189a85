// What this person has written and is not settled, kept in the browser so that a reload loses nothing. Each message has
// a key of its own: several tabs change theirs without a word to the others. Other versions of this page may have kept
// something else under the same names. Only what is known to be right is read back, and the rest is left as it is.

const prefix = `drainmark-guestbook:${new URL(".", location.href).pathname}:`;

// keep writes one message down, and returns whether the browser could.
export function keep(message) {
  try {
    localStorage.setItem(prefix + message.key, JSON.stringify(message));
    return true;
  } catch {
    return false; // no room, or not allowed
  }
}

// forget removes one.
export function forget(message) {
  try {
    localStorage.removeItem(prefix + message.key);
  } catch {
    // not allowed: there is none
  }
}

// kept returns all of them, the oldest first.
export function kept() {
  const found = [];
  try {
    for (let i = 0; i < localStorage.length; i++) {
      const name = localStorage.key(i);
      if (name.startsWith(prefix)) found.push(parse(name, localStorage.getItem(name)));
    }
  } catch {
    // not allowed: there are none
  }
  return found.filter(Boolean).sort((a, b) => a.at - b.at);
}

// onOtherTab calls change(message) when another tab has changed a message, and gone(key) when it has removed one.
export function onOtherTab(change, gone) {
  addEventListener("storage", ({ key, newValue, storageArea }) => {
    if (storageArea !== localStorage || !key?.startsWith(prefix)) return;
    const message = parse(key, newValue);
    if (message) change(message);
    else if (newValue === null) gone(key.slice(prefix.length));
  });
}

const states = new Set(["sending", "refused", "checking", "accepted", "visible", "rejected", "unsettled"]);
const latest = 8.64e15; // ms; the last moment of a Date

const isTime = (n) => Number.isFinite(n) && Math.abs(n) <= latest;
const isText = (text) => typeof text === "string";
const isWord = (text) => isText(text) && /^[\w-]*$/.test(text); // it goes into headers and paths

// parts says of each part of a message whether it is right, and which one it has if it is missing.
const parts = {
  key: [isWord],
  text: [isText],
  at: [isTime],
  base: [(n) => Number.isSafeInteger(n) && n >= 0, () => 0],
  triedAt: [isTime, (message) => message.at],
  state: [(state) => states.has(state)],
  receipt: [(receipt, { state }) => isWord(receipt) && (receipt !== "" || state !== "accepted"), () => ""],
  id: [isText, () => ""],
  maybe: [(maybe) => typeof maybe === "boolean", () => false],
  reason: [isText, () => ""],
};

// parse returns the message that is kept under a name, or null if it is none.
function parse(name, text) {
  try {
    const found = JSON.parse(text);
    const message = {};
    for (const [part, [isRight, otherwise]] of Object.entries(parts)) {
      message[part] = found[part] ?? otherwise?.(message);
      if (!isRight(message[part], message)) return null;
    }
    return prefix + message.key === name ? message : null;
  } catch {
    return null;
  }
}
