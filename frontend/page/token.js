// Who looks at the page, where the API wants to know: a token. It is kept in the tab's session storage, which no other
// site and no other tab reads, so that a reload does not ask again. It is in no cookie and in no URL: no request has it
// that this page does not make itself.

const place = `drainmark-token:${new URL(".", location.href).pathname}`;

// token returns the token, null if there is none.
export const token = () => sessionStorage.getItem(place);

export const keepToken = (text) => sessionStorage.setItem(place, text);
export const forgetToken = () => sessionStorage.removeItem(place);

// signed returns headers with what says who makes a request, if anybody has said so.
export function signed(headers) {
  const all = new Headers(headers);
  if (token()) all.set("Authorization", `Bearer ${token()}`);
  return all;
}

// claimsOf returns what a signed token (JWT) says, {} of any other. Only the API can know whether it is true.
export function claimsOf(text) {
  try {
    const bytes = atob(text.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (c) => c.charCodeAt(0)))) ?? {};
  } catch {
    return {};
  }
}
