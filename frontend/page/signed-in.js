// Where the issuer sends people back to. They go on to the page that they came from.

import { exchange, left } from "./login.js";
import { keepToken } from "./token.js";

const answer = new URLSearchParams(location.search);
const kept = left();
const back = document.getElementById("back");
back.href = kept.back;
history.replaceState(null, "", "signed-in"); // the code is in the history no longer than it is good
try {
  keepToken(await exchange(answer, kept));
  location.replace(kept.back);
} catch (error) {
  document.getElementById("sentence").textContent = `Signing in did not work: ${error.message}.`;
  back.hidden = false;
}
