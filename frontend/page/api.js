// What all pages need: the client of the API, and a little help with elements. All URLs are relative to the page, so it
// works behind any path.

import { Client } from "./drainmark.js";
import { answered, askWho, offer } from "./sign-in.js";
import { token } from "./token.js";

const home = new URL(".", location.href);

// watched is fetch for requests that say who makes them. Who may do more when they are known is asked who they are.
export async function watched(...question) {
  const answer = await fetch(...question);
  if (answer.headers.has("WWW-Authenticate")) askWho();
  if (answer.status === 403) offer();
  return answer;
}

// api makes each request once: what is asked again, and when, is for the pages to say, which take turns (turns.js).
export const api = new Client({
  url: home,
  retry: false,
  timeout: 15_000,
  silence: 40_000,
  fetch: watched,
  async token(refused) {
    if (refused !== "") return refused; // the page begins anew with another one
    await answered();
    return token() ?? "";
  },
});

// pause waits, and no longer than until the signal ends, if there is one.
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
}

export const byId = (id) => document.getElementById(id);

// element makes an element with properties (not attributes: className, textContent, …) and children. Nothing of it is
// read as HTML.
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

// setText changes a text only if it is another one, so that nothing is laid out or read out for nothing.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// quantity writes a number with its noun: 1 message, 1,200 messages.
export function quantity(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

// ago writes how long something took or is away, in words and roughly.
export function ago(ms) {
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return quantity(Math.floor(s / 86400), "day");
}

// Bell lets one side wait until another has something for it. A ring while nobody waits is not lost.
export class Bell {
  #rung = false;
  #stop = null;

  ring() {
    this.#rung = true;
    this.#stop?.abort();
  }

  // wait returns after a ring, or after some time at the latest.
  async wait(ms) {
    if (!this.#rung) {
      this.#stop = new AbortController();
      await pause(ms, this.#stop.signal);
    }
    this.#rung = false;
  }
}
