// Signing in at an issuer (OpenID Connect), by authorization code with PKCE: the page leaves for the issuer, which sends
// people back to the page signed-in with a code. Without the secret that stays in this tab's session storage, the code is
// worth nothing.

import { claimsOf } from "./token.js";

const home = new URL(".", location.href); // the folder of the pages
const arrival = new URL("signed-in", home).href; // the issuer knows it, and sends people nowhere else
const place = `drainmark-login:${home.pathname}`;
const answerTime = 15_000; // ms

// offered returns the issuer at which people can sign in, null if there is none. It fails if that is not known now.
export async function offered() {
  const { status, ok, said } = await ask("the server", "login");
  if (status === 204) return null;
  if (!ok) throw new Error(said.detail ?? `the server says ${status}`);
  return said;
}

// leave goes to the issuer.
export async function leave({ authorization_endpoint, client_id, scope }) {
  if (!crypto.subtle) throw new Error("to sign in elsewhere, this page must come by HTTPS");
  const [state, nonce, verifier] = [secret(), secret(), secret()];
  const challenge = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  sessionStorage.setItem(place, JSON.stringify({ state, nonce, verifier, back: location.href }));
  const question = {
    response_type: "code", client_id, scope, redirect_uri: arrival, state, nonce,
    code_challenge: encoded(new Uint8Array(challenge)), code_challenge_method: "S256",
  };
  const to = new URL(authorization_endpoint);
  for (const [name, value] of Object.entries(question)) to.searchParams.set(name, value);
  location.assign(to);
}

// left takes what this tab kept when it left for the issuer. It is there once. Back leads to one of our pages.
export function left() {
  const kept = JSON.parse(sessionStorage.getItem(place)) ?? {};
  sessionStorage.removeItem(place);
  const back = new URL(kept.back ?? "", home).href;
  return { ...kept, back: back.startsWith(home.href) ? back : home.href };
}

// exchange returns the token for the code with which the issuer has sent somebody back. It fails with what went wrong.
export async function exchange(answer, { state, nonce, verifier }) {
  if (!state || answer.get("state") !== state) throw new Error("it was not begun in this tab, or has been used already");
  const refused = answer.get("error");
  if (refused === "access_denied") throw new Error("the issuer, or you, refused it");
  if (refused) throw new Error(`the issuer says ${answer.get("error_description") ?? refused}`);
  const { issuer, token_endpoint, client_id } = (await offered()) ?? {};
  const body = new URLSearchParams({
    grant_type: "authorization_code", code: answer.get("code") ?? "", redirect_uri: arrival, client_id, code_verifier: verifier,
  });
  const { ok, said } = await ask("the issuer", token_endpoint, { method: "POST", body });
  if (!ok) throw new Error(`the issuer does not take the code: ${said.error_description ?? said.error ?? "it does not say why"}`);
  const claims = claimsOf(said.id_token);
  if (claims.nonce !== nonce || claims.iss !== issuer || ![claims.aud].flat().includes(client_id)) {
    throw new Error("the issuer's token is of another sign-in, or for somebody else");
  }
  return said.id_token;
}

// ask sends a request, and returns its status and what is said as JSON.
async function ask(whom, url, options) {
  try {
    const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(answerTime) });
    return { status: answer.status, ok: answer.ok, said: await answer.json().catch(() => ({})) };
  } catch {
    throw new Error(`${whom} does not answer this page`);
  }
}

const secret = () => encoded(crypto.getRandomValues(new Uint8Array(32)));

// encoded writes bytes in base64url.
function encoded(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
