// What this person has written and is not settled, kept in the browser so that a reload loses nothing. Each message has
// a key of its own: several tabs change theirs without a word to the others.

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
      if (name.startsWith(prefix)) found.push(parse(localStorage.getItem(name)));
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
    const message = parse(newValue);
    if (message) change(message);
    else if (newValue === null) gone(key.slice(prefix.length));
  });
}

function parse(text) {
  try {
    const m = JSON.parse(text);
    return typeof m?.key === "string" && typeof m.text === "string" && Number.isFinite(m.at) && typeof m.state === "string" ? m : null;
  } catch {
    return null;
  }
}
