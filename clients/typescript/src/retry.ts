/**
 * How a call that failed is made again, where that is safe and may help. It waits longer each time, with jitter, and
 * never for less than the server's Retry-After says. The call's signal ends it in any case.
 */
export interface Retry {
  /** How many requests a call makes at most. Any number if it is not set. */
  attempts?: number;
  /** How long after its beginning a call makes another request, in ms: 30 s if neither this nor `attempts` is set. */
  elapsed?: number;
  /** The first pause, in ms, 20 if it is not set. */
  least?: number;
  /** The longest pause, unless Retry-After is longer, in ms, 2,000 if it is not set. */
  most?: number;
}

/** A Retry with everything set. */
export class Patience {
  readonly attempts: number;
  readonly elapsed: number;
  readonly least: number;
  readonly most: number;

  constructor(retry: Retry | false) {
    const { attempts, elapsed, least = 20, most } = retry || { attempts: 1 };
    this.attempts = attempts ?? Infinity;
    this.elapsed = elapsed ?? (attempts === undefined ? 30_000 : Infinity);
    this.least = least;
    this.most = most ?? Math.max(2000, least);
    if (!(this.attempts >= 1 && this.elapsed >= 0 && this.least >= 0 && this.most >= this.least)) {
      throw new TypeError("retry: attempts must be at least 1, no time negative, and most no less than least");
    }
  }

  /** Whether calls are made again at all. */
  get on(): boolean {
    return this.attempts > 1;
  }

  /** Whether there may be another request after so many, after a pause. */
  allows(attempts: number, elapsed: number, pause: number): boolean {
    return attempts < this.attempts && elapsed + pause <= this.elapsed;
  }

  pace(): Pace {
    return new Pace(this.least, this.most);
  }
}

/** How long to pause: longer each time, and never for the same time as others. */
export class Pace {
  readonly #least: number;
  #step = 0;
  most: number;

  constructor(least: number, most: number) {
    this.#least = least;
    this.most = most;
  }

  /** The next pause in ms, which is at least as long as the server has asked for. */
  next(atLeast = 0): number {
    this.#step = Math.min(Math.max(2 * this.#step, this.#least), Math.max(this.most, this.#least));
    return Math.max(this.#step / 2, atLeast) + (Math.random() * this.#step) / 2;
  }

  /** Begins again with the shortest pause: something has worked. */
  reset(): void {
    this.#step = 0;
  }
}

const longest = 2 ** 31 - 1; // ms that a timer can take

/** Waits, or until the signal is aborted, which it does not throw for. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, Math.min(ms, longest));
    signal?.addEventListener("abort", end);
  });
}

/** Ends a request when the caller wants that, or when its time is over. The time can be set again and again. */
export class Limit {
  readonly #control = new AbortController();
  readonly #outer: AbortSignal | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Why it was ended, if its time was over. */
  over = "";

  constructor(outer?: AbortSignal) {
    this.#outer = outer;
    if (outer?.aborted) this.#end();
    outer?.addEventListener("abort", this.#end);
  }

  readonly #end = () => this.#control.abort(this.#outer?.reason);

  get signal(): AbortSignal {
    return this.#control.signal;
  }

  start(ms: number, over: string): void {
    this.stop();
    this.#timer = setTimeout(
      () => {
        this.over = over;
        this.#control.abort(new DOMException(over, "TimeoutError"));
      },
      Math.min(ms, longest),
    );
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Ends whatever is still under way, and leaves nothing behind. */
  close(): void {
    this.stop();
    this.#outer?.removeEventListener("abort", this.#end);
    this.#control.abort();
  }
}
