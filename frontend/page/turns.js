// What only one page of a browser may do at a time. Over HTTP/1.1 a browser has six connections to a host, for all its
// tabs and windows together. An event stream or a wait holds one for as long as it lasts, so the seventh of them would
// keep every page from loading anything. All pages together have one stream, one wait, and one request of
// those that store a message; what is left is enough for short questions.

const place = new URL(".", location.href).pathname;
const renewEvery = 1_000; // ms
const leaseFor = 5_000;   // ms after which a lease that was not renewed is nobody's

// take runs work(signal) while no other page of this browser has the turn of this name, and returns {value} of what it
// came to. It returns null at once if another page has the turn, or if it cannot be known whether one has. The signal ends
// when the turn is lost.
export async function take(name, work) {
  try {
    if (navigator.locks) {
      const options = { ifAvailable: true };
      return await navigator.locks.request(`drainmark:${place}:${name}`, options, (lock) => (lock ? run(work) : null));
    }
    return await takeLease(`drainmark-turn:${place}:${name}`, work);
  } catch (error) {
    if (error instanceof Failed) throw error.cause;
    return null; // the browser allows neither: nobody knows who has the turn
  }
}

// waiting asks a question for which the server may wait some time, ms. While another page waits it asks without that.
export async function waiting(wait, ask) {
  const turn = await take("wait", () => ask(wait));
  return turn ? turn.value : ask(0);
}

// Failed is an error of the work, not of the turn.
class Failed extends Error {}

async function run(work, signal = new AbortController().signal) {
  try {
    return { value: await work(signal) };
  } catch (cause) {
    throw new Failed("", { cause });
  }
}

// takeLease does the same where there are no Web Locks: in pages that come over plain HTTP from another machine. The
// turn is an entry in the storage, {holder, at}, that its holder renews. Where two take it in the same moment, the one
// whose entry has been overwritten notices at its next renewal.
const self = Math.random().toString(36).slice(2);

async function takeLease(key, work) {
  const { holder, at } = read(key);
  if (holder !== undefined && Math.abs(Date.now() - at) < leaseFor) return null;
  const lost = new AbortController();
  const renew = () => {
    if (read(key).holder === self) write(key);
    else lost.abort();
  };
  const drop = () => read(key).holder === self && localStorage.removeItem(key);
  write(key);
  const timer = setInterval(renew, renewEvery);
  addEventListener("pagehide", drop);
  try {
    return await run(work, lost.signal);
  } finally {
    clearInterval(timer);
    removeEventListener("pagehide", drop);
    drop();
  }
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? {};
  } catch {
    return {}; // not one of these
  }
}

function write(key) {
  localStorage.setItem(key, JSON.stringify({ holder: self, at: Date.now() }));
}
