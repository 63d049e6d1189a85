// Who looks at the page, where the API wants to know: a token that they paste. It is kept in the tab's session storage,
// which no other site and no other tab reads, so that a reload does not ask again. It is in no cookie and in no URL: no
// request has it that this page does not make itself.

const place = `drainmark-token:${new URL(".", location.href).pathname}`;

let asking = null; // the dialog that is open

// signed returns headers with what says who makes a request, if anybody has said so.
export function signed(headers) {
  const all = new Headers(headers);
  const token = sessionStorage.getItem(place);
  if (token) all.set("Authorization", `Bearer ${token}`);
  return all;
}

// askWho has people sign in. The page begins anew when they have, and what they wrote is still there.
export function askWho() {
  if (asking) return;
  const input = make("input", { type: "password", id: "token", autocomplete: "off", required: true, className: "token" });
  const form = make("form", { method: "dialog" },
    make("h2", { textContent: "Sign in" }),
    make("p", { textContent: sessionStorage.getItem(place) ? "The token is not good, or not any more." : "This needs to know who you are." }),
    make("label", { htmlFor: "token", textContent: "Token" }), input,
    make("button", { className: "button primary", textContent: "Sign in" }));
  asking = make("dialog", { className: "card sign-in" }, form);
  form.addEventListener("submit", () => {
    sessionStorage.setItem(place, input.value.trim());
    location.reload();
  });
  asking.addEventListener("close", () => {
    asking.remove();
    asking = null;
  });
  document.body.append(asking);
  asking.showModal();
}

// offer lets those sign in who may do some things without.
export function offer() {
  if (!document.getElementById("sign-in") && !sessionStorage.getItem(place)) button("sign-in", "Sign in", askWho);
}

if (sessionStorage.getItem(place)) {
  button("sign-out", "Sign out", () => {
    sessionStorage.removeItem(place);
    location.reload();
  });
}

// button puts a button behind the names of the pages.
function button(id, textContent, press) {
  const made = make("button", { className: "button quiet", type: "button", id, textContent });
  made.addEventListener("click", press);
  document.querySelector(".site-nav").append(made);
}

function make(tag, properties, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}
