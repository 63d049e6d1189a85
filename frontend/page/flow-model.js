// What the flow page makes of the API's answers: pure functions and small classes, no elements. Nothing is guessed: what
// is not known is null, and null is shown as unknown.

import { why } from "./errors.js";

// freshFor is how long the last answer of a source counts as the present, ms. Sources are asked once a second.
const freshFor = 3500;

// Source is one thing that is asked for regularly: its last answer, how old that is, and what went wrong since.
export class Source {
  value = null; // the last answer
  at = 0; // when it came, ms of performance.now(); 0 if there has been none
  clock = null; // the same as a Date
  error = null; // of the newest question, if it failed
  #turn = 0; // answers and failures so far

  // ask asks a question, and returns whether its answer was taken. What has been learnt in another way meanwhile is
  // newer, so the answer does not count then.
  async ask(question) {
    const turn = this.#turn;
    try {
      const value = await question();
      if (turn !== this.#turn) return false;
      this.succeed(value, performance.now());
      return true;
    } catch (error) {
      if (turn === this.#turn) this.fail(error);
      return false;
    }
  }

  succeed(value, at) {
    this.#turn++;
    [this.value, this.at, this.clock, this.error] = [value, at, new Date(), null];
  }

  fail(error) {
    this.#turn++;
    this.error = error;
  }

  // fresh says whether the last answer tells of the present.
  fresh(now) {
    return this.at > 0 && this.error === null && now - this.at < freshFor;
  }

  // age returns how old the last answer is, ms, null if there is none.
  age(now) {
    return this.at > 0 ? now - this.at : null;
  }
}

// noRates are the rates of which nothing is known.
export const noRates = { accepted: null, persisted: null, partitions: [] };

// Rates makes rates of the differences between two answers: between the newest and one of about two seconds before, or
// of some more where several backends take turns. Only answers of one backend are compared, because each may read another
// replica, or count its own.
export class Rates {
  #samples = [];
  static usual = 2500; // ms that are looked at
  static longest = 10_000; // the same, where nothing else can be compared
  static shortest = 400;

  // add takes an answer to GET v1/backlog and returns {accepted, persisted}, records a second, each null if unknown, and
  // partitions, the same of persisted for each.
  add(backlog, at) {
    const persisted = backlog.partitions.map((p) => p.persisted);
    const sum = persisted.reduce((a, b) => a + b, 0);
    const { backend, pending } = backlog;
    const sample = { at, backend, exact: pending.exact, persisted, sum, accepted: sum + pending.records };
    this.#samples = this.#samples.filter((s) => at - s.at <= Rates.longest);
    const same = this.#samples.filter((s) => s.backend === sample.backend && s.exact === sample.exact);
    const before = same.find((s) => at - s.at <= Rates.usual) ?? same.at(-1);
    this.#samples.push(sample);
    if (!before || at - before.at < Rates.shortest) return noRates;
    const rate = (now, then) => (now < then ? null : ((now - then) * 1000) / (at - before.at));
    return {
      accepted: rate(sample.accepted, before.accepted),
      persisted: rate(sum, before.sum),
      partitions: persisted.map((n, i) => rate(n, before.persisted[i])),
    };
  }
}

// countText writes a count: 12, or at least 12. At least 0 is all that is known where the asked backend knows of none.
export const countText = ({ records, exact }) => `${exact ? "" : "at least "}${records.toLocaleString("en")}`;

// readyText writes what a broker that cannot count says itself: how many batches lie ready. Nothing if it says nothing.
export function readyText({ pending, ready }) {
  if (pending.exact) return "";
  const counted = "as one backend counts it";
  if (ready === null || ready === undefined) return counted;
  const batches = `${ready.records.toLocaleString("en")} ${ready.records === 1 ? "batch lies" : "batches lie"}`;
  return `${counted}; ${batches} ready in the queue`;
}

// rateText writes a rate; about says that it was made of counts that are not exact.
export function rateText(rate, about = false) {
  if (rate === null) return "unknown";
  const text = rate === 0 || rate >= 10 ? Math.round(rate).toLocaleString("en") : rate.toFixed(1);
  return `${about ? "about " : ""}${text}/s`;
}

// durationText writes seconds for people.
export function durationText(seconds) {
  if (seconds < 0.05) return "under 0.1 s";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

// oldestText writes the age of what waits longest, and none only where it is exact that nothing waits.
export function oldestText({ pending, oldestPendingSeconds: oldest }, none) {
  if (oldest !== null) return durationText(oldest);
  if (pending.records > 0) return "unknown";
  return pending.exact ? none : "none known";
}

// clockText writes a time of the day.
export const clockText = (date) => date.toLocaleTimeString("en-GB");

// shortText writes a number in few characters: 950, 12k, 3.4M.
export function shortText(n) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (n >= size) return `${parseFloat((n / (unit === "k" ? 1e3 : size)).toPrecision(3))}${unit}`;
  }
  return n.toLocaleString("en");
}

// levelOf says how full the tank looks: each third is a hundred times more, up to a million.
export const levelOf = (records) => (records === 0 ? 0 : Math.min(1, Math.max(0.08, Math.log10(records) / 6)));

const is = (state, word, detail = "") => ({ state, word, detail });
const unknown = (detail = "") => is("unknown", "unknown", detail);

// since says since when a source has not answered.
const since = (source) => (source.clock ? `since ${clockText(source.clock)}` : "since this page was opened");

// stationsOf says how each station is: its state (good, waiting, bad, unknown), a word for it, and a detail.
export function stationsOf({ status, backlog, pause, rates, resumedAt }, now) {
  const up = status.fresh(now);
  return {
    backend: backendOf(status, backlog, now),
    broker: up ? workingOf(status.value.appends, "takes writes", "takes none") : unknown(),
    consumer: consumerOf(backlog, pause, resumedAt, now),
    store: storeOf(backlog, rates, now),
    replica: up ? workingOf(status.value.reads, "can be read", "cannot be read") : unknown(),
  };
}

function workingOf(part, yes, no) {
  return part.working ? is("good", yes) : is("bad", no, part.reason ?? "");
}

// noBackend are the problems of a frontend that finds no backend: none of a backend's own answers to GET v1/status.
const noBackend = ["unavailable", "outcome-unknown"];

function backendOf(status, backlog, now) {
  if (status.fresh(now) || backlog.fresh(now)) return is("good", "answers");
  if (status.error === null && status.at === 0) return is("unknown", "asking …");
  const { error } = status;
  if (error?.status === 401) return is("unknown", "not told", "nobody is signed in");
  if (error?.status === 403) return is("unknown", "not told", why(error));
  if (error?.status > 0 && !noBackend.includes(error.kind)) return is("bad", "does not work", `${error.detail}; ${since(status)}`);
  return is("bad", "no answer", since(status));
}

function consumerOf(backlog, pause, resumedAt, now) {
  if (pause.fresh(now) && pause.value?.paused) {
    if (pause.value.running) return is("waiting", "pausing …", "commits what it has in hand");
    return is("waiting", "paused", "by the switch below");
  }
  if (!backlog.fresh(now)) return unknown();
  const partitions = backlog.value.partitions;
  const held = partitions.filter((p) => p.owner !== null);
  if (held.length === 0 && now - resumedAt < 5000) return is("waiting", "starting …");
  if (held.length === 0) return is("bad", "missing", "none holds a partition");
  const stalled = partitions.find((p) => p.stalled !== null);
  if (stalled) return is("bad", "stalled", stalled.stalled);
  const some = `${held.length} of ${partitions.length} partitions are held`;
  if (held.length < partitions.length) return is("waiting", "incomplete", some);
  if (held.some((p) => p.owner === "")) return is("good", "works", "all partitions are held"); // by whom is not told
  const owners = new Set(held.map((p) => p.owner)).size;
  return is("good", "works", owners === 1 ? "one holds all partitions" : `${owners} share the partitions`);
}

// storeOf goes by what consumers do in the store: nobody else writes to it.
function storeOf(backlog, rates, now) {
  if (!backlog.fresh(now)) return unknown();
  const { partitions } = backlog.value;
  if (rates.persisted > 0) return is("good", "takes writes");
  if (partitions.every((p) => p.owner === null)) return is("unknown", "not in use", "no consumer writes to it now");
  if (partitions.some((p) => p.stalled !== null)) return is("unknown", "takes nothing", "although a consumer should write");
  return is("good", "ready", "for the consumers");
}

// pipesOf says what flows from each of the first four stations: its rate, or that it is blocked, and by what.
export function pipesOf(stations, { backlog, rates }, now) {
  const exact = backlog.value?.pending.exact ?? true;
  const fresh = backlog.fresh(now);
  const pipe = (rate, about = false) => {
    if (!fresh || rate === null) return { state: "unknown", rate: null, text: "unknown" };
    return { state: rate > 0 ? "flowing" : "idle", rate, text: rateText(rate, about) };
  };
  const blocked = (by, text) => ({ state: `blocked ${by.state}`, rate: null, text });
  const { consumer, broker, replica } = stations;
  // A consumer that does not work stops the flow, unless something has still been persisted.
  const stopped = !["good", "unknown"].includes(consumer.state) && consumer.word !== "incomplete" && !(rates.persisted > 0);
  return {
    backend: broker.state === "bad" ? blocked(broker, "blocked") : pipe(rates.accepted, !exact),
    broker: stopped ? blocked(consumer, consumer.word) : pipe(rates.persisted),
    consumer: pipe(rates.persisted),
    store: replica.state === "bad" ? blocked(replica, "not seen") : pipe(rates.persisted),
  };
}

// sentenceOf says how the whole is, in plain words. It names no numbers that change, so it can be read out.
export function sentenceOf(stations, { status, backlog }, now) {
  const { backend, broker, consumer, store, replica } = stations;
  const reason = (station) => (station.detail ? `: ${station.detail}.` : ".");
  if (backend.word === "asking …") return "Asking the backend how it is …";
  if (backend.word === "not told") return `How it is is not told: ${backend.detail}.`;
  if (backend.state === "bad") {
    const old = backlog.clock ? " The numbers are from then, and marked as old." : "";
    if (backend.word === "no answer") return `The backend gives no answer, ${backend.detail}.${old}`;
    return `The backend does not work${reason(backend)}${old}`;
  }
  if (broker.state === "bad") return `Writes are refused now${reason(broker)}`;
  if (replica.state === "bad") return `Writes are taken in, but nothing can be read now${reason(replica)}`;
  const why = backlog.error?.detail ?? "no answer yet";
  if (!backlog.fresh(now)) return `Writes are taken in. What waits is not known now: ${why}.`;
  if (!status.fresh(now)) return "Whether appends and reads work is not known now.";
  switch (consumer.word) {
    case "paused":
    case "pausing …": return "The consumer is paused. Writes are still accepted, and wait safely in the queue.";
    case "missing": return "No consumer writes to the database: none runs, or none can. Writes are still accepted, and wait safely in the queue.";
    case "stalled": return `Writes are accepted, but do not get into the database${reason(consumer)}`;
    case "incomplete": return `Some partitions wait for a consumer${reason(consumer)}`;
    case "starting …": return "The consumer starts again.";
  }
  const { persisting } = status.value;
  if (persisting?.working === false) return `Writes are accepted and can be read, but do not get into the database${reason({ detail: persisting.reason })}`;
  if (persisting?.working === null) return `Writes are accepted and can be read. Whether they get into the database is not known${reason({ detail: persisting.reason })}`;
  const missing = backlog.value.partitions.reduce((sum, p) => sum + p.missing.length, 0);
  if (missing > 0) return "Accepted writes are missing: the broker did not deliver them. The partitions and the dead letters below say which.";
  if (store.state !== "good") return "Writes are accepted and can be read.";
  if (backlog.value.pending.exact) return "All is well: writes are accepted, taken to the database, and can be read.";
  return "Writes are accepted, a consumer works on each partition, and what it has persisted can be read. "
    + "This broker cannot count what waits: only a barrier tells whether everything is persisted.";
}
