// The guestbook: shows the newest messages of one log as they come, and sends new ones. All URLs are relative to the
// page, so it works behind any path.

const log = "v1/logs/guestbook/";
const shown = 50;
const endOfLog = Number.MAX_SAFE_INTEGER; // the API's highest position

const element = (id) => document.getElementById(id);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// show puts a message on top, as text and nothing but text.
function show(message) {
  const list = element("messages");
  const item = document.createElement("li");
  const body = document.createElement("p");
  const time = document.createElement("time");
  body.textContent = message.body ?? `(${message.content_type}, not text)`;
  time.dateTime = message.accepted_at;
  time.textContent = `${message.position}, ${new Date(message.accepted_at).toLocaleString()}`;
  item.append(body, time);
  list.prepend(item);
  while (list.children.length > shown) list.lastElementChild.remove();
}

// lastPosition returns the position of the log's newest message, 0 if nobody has written to it yet.
async function lastPosition() {
  const answer = await fetch(`${log}messages?limit=1&after=${endOfLog}`);
  if (answer.status === 404) return 0;
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return (await answer.json()).last_position;
}

// follow shows the newest messages and then each new one. The stream comes back by itself after a cut, behind the last
// message that it had; after an answer that is an error it does not, so it is opened again.
async function follow() {
  let after;
  for (;;) {
    try {
      after ??= Math.max(0, (await lastPosition()) - shown);
      await new Promise((_, ended) => {
        const events = new EventSource(`${log}events?after=${after}`);
        events.addEventListener("open", () => { element("connection").textContent = "live"; });
        events.addEventListener("message", (event) => {
          const message = JSON.parse(event.data);
          after = message.position;
          show(message);
        });
        events.addEventListener("error", () => {
          element("connection").textContent = "the connection is lost; trying again …";
          if (events.readyState === EventSource.CLOSED) ended(new Error("no stream"));
        });
      });
    } catch {
      element("connection").textContent = "no connection; trying again …";
      await pause(2000);
    }
  }
}

// newKey makes an idempotency key, with which sending again is harmless.
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// append sends a message until the answer is known, some times at most, and returns its receipt.
async function append(text) {
  const headers = { "Content-Type": "text/plain; charset=utf-8", "Idempotency-Key": newKey() };
  let why = "";
  for (let attempt = 0; attempt < 5; attempt++) {
    if (attempt > 0) await pause(1000 * attempt);
    try {
      const answer = await fetch(`${log}messages`, { method: "POST", headers, body: text });
      const said = await answer.json();
      if (answer.ok) return said.receipt;
      why = said.detail;
      if (answer.status < 500) throw new TypeError(why, { cause: "refused" });
    } catch (error) {
      if (error.cause === "refused") throw error;
      why = "no answer";
    }
    element("state").textContent = `not accepted yet (${why}); trying again …`;
  }
  throw new Error(`${why}; it may have been accepted all the same`);
}

// visible waits until the message of a receipt can be read, and says so.
async function visible(receipt, say) {
  for (;;) {
    try {
      const answer = await fetch(`v1/receipts/${receipt}`, { headers: { Prefer: "wait=30" } });
      const status = await answer.json();
      if (status.state === "persisted") return say("visible");
      if (status.state === "rejected") return say(`rejected: ${status.reason}`);
      if (answer.status >= 400 && answer.status < 500) return say(`accepted; what became of it is not known: ${status.detail}`);
      say(status.state === "stalled" ? "accepted; the database does not take it in yet" : "accepted");
    } catch { /* no answer: what was said still holds */ }
    await pause(1000);
  }
}

let sent = 0; // only the newest message's state is shown

element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const mine = ++sent;
  const say = (state) => { if (mine === sent) element("state").textContent = state; };
  element("send").disabled = element("text").readOnly = true;
  say("sending …");
  try {
    const receipt = await append(element("text").value);
    element("text").value = "";
    say("accepted");
    visible(receipt, say);
  } catch (error) {
    say(`not sent: ${error.message}`);
  } finally {
    element("send").disabled = element("text").readOnly = false;
  }
});

follow();
