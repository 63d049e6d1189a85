// One stream for all pages of a browser: the page that has it hands on what it brings, and says every second that it is
// open. The others never say more than that tells them.

const format = 2; // of what is handed on; pages of another version use another channel
const fedFor = 3_500; // ms for which a sign of life tells of the present

const now = () => performance.now();

// Share is one page's end of it. Its handlers are called with what another page hands on:
//   messages(after, messages): what its stream brought behind a position
//   sign(position): it is open, and has brought everything up to there
//   ended(): it is over, or its page is
export class Share {
  #channel;
  #handlers;
  #signAt = -Infinity;

  constructor(log, handlers) {
    this.#handlers = handlers;
    this.#channel = new BroadcastChannel(`drainmark:${format}:${new URL(".", location.href).pathname}:${log}`);
    this.#channel.addEventListener("message", ({ data }) => this.#take(data));
  }

  // fed says whether another page has a stream now, and hands on what it brings.
  get fed() {
    return now() - this.#signAt < fedFor;
  }

  hand(after, messages) {
    this.#channel.postMessage({ after, messages });
  }

  sign(position) {
    this.#channel.postMessage({ position });
  }

  end() {
    this.#channel.postMessage({ ended: true });
  }

  #take({ after, messages, position, ended }) {
    if (ended) {
      this.#signAt = -Infinity;
      this.#handlers.ended();
    } else if (Number.isSafeInteger(position)) {
      this.#signAt = now();
      this.#handlers.sign(position);
    } else if (Number.isSafeInteger(after) && messages?.length > 0) {
      this.#handlers.messages(after, messages);
    }
  }
}
