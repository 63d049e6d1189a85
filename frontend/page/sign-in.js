// Signing in and out on a page: at an issuer if there is one, or with a token that people paste.

import { leave, offered } from "./login.js";
import { claimsOf, forgetToken, keepToken, token } from "./token.js";

let asking = null; // the dialog that is open

// answered waits while people are asked who they are. Requests in the meantime would be refused too, and the API counts
// those.
export function answered() {
  return new Promise((resolve) => {
    if (asking) asking.addEventListener("close", resolve, { once: true });
    else resolve();
  });
}

// askWho has people sign in. The page begins anew when they have, and what they wrote is still there.
export function askWho() {
  if (asking) return;
  const input = make("input", { type: "password", id: "token", autocomplete: "off", required: true, className: "token" });
  const elsewhere = make("div", { className: "elsewhere" });
  const form = make("form", { method: "dialog" },
    make("label", { htmlFor: "token", textContent: "Token" }), input,
    make("button", { className: "button primary", textContent: "Sign in" }));
  asking = make("dialog", { className: "card sign-in" },
    make("h2", { textContent: "Sign in" }), make("p", { textContent: why() }), elsewhere, form);
  if (token()) form.append(button("Sign out", signOut));
  form.addEventListener("submit", (event) => {
    event.preventDefault(); // it stays open, and nothing is sent until the page begins anew
    keepToken(input.value.trim());
    location.reload();
  });
  asking.addEventListener("close", () => {
    asking.remove();
    asking = null;
  });
  document.body.append(asking);
  asking.showModal();
  offerIssuer(elsewhere);
}

// why says in one sentence why people are asked.
function why() {
  if (!token()) return "This needs to know who you are.";
  return claimsOf(token()).exp * 1000 < Date.now() ? "Your sign-in has ended." : "The token is not good, or not any more.";
}

// offerIssuer offers to sign in at the issuer, if there is one, or says why that does not work.
async function offerIssuer(box) {
  const fail = (error) => box.replaceChildren(make("p", { className: "notice bad", textContent: `Only a token works now: ${error.message}.` }));
  try {
    const issuer = await offered();
    if (!issuer) return;
    const go = make("button", { className: "button primary", type: "button", textContent: `Sign in with ${new URL(issuer.issuer).host}` });
    go.addEventListener("click", () => leave(issuer).catch(fail));
    box.append(go);
  } catch (error) {
    fail(error);
  }
}

// offer lets those sign in who may do some things without.
export function offer() {
  if (!document.getElementById("sign-in") && !token()) add("sign-in", "Sign in", askWho);
}

if (token()) add("sign-out", "Sign out", signOut);

function signOut() {
  forgetToken();
  location.reload();
}

// add puts a button behind the names of the pages.
function add(id, text, press) {
  const made = button(text, press);
  made.id = id;
  document.querySelector(".site-nav").append(made);
}

function button(textContent, press) {
  const made = make("button", { className: "button quiet", type: "button", textContent });
  made.addEventListener("click", press);
  return made;
}

function make(tag, properties, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}
