// The chart of the last five minutes: the backlog, and what was accepted and persisted a second. It has what this page has
// seen, with gaps where it has seen nothing.

import { byId, setText } from "./api.js";
import { clockText, rateText, shortText } from "./flow-model.js";
import uPlot from "./vendor/uplot/uPlot.esm.js";

const span = 300; // s that are kept
const shortest = 60; // s that are shown at least
const gap = 3; // s without an answer that leave a gap

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  #data = [[], [], [], []]; // times, backlog, accepted/s, persisted/s
  #plot;
  #box = byId("chart");
  #exact = true;
  #describedAt = Date.now() / 1000;

  constructor() {
    this.#plot = new uPlot(this.#options(), this.#data, this.#box);
    new ResizeObserver(() => this.#plot.setSize(this.#size())).observe(this.#box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#plot.redraw(false, true));
  }

  #size() {
    return { width: Math.max(200, this.#box.clientWidth), height: this.#box.clientHeight };
  }

  #options() {
    const axis = {
      stroke: () => colour("--muted"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false },
      font: "12px system-ui, sans-serif",
    };
    const times = (u, ticks) => ticks.map((t) => clockText(new Date(t * 1000)));
    const perSecond = (u, ticks) => ticks.map((t) => `${shortText(t)}/s`);
    const line = (scale, name, more) => ({ scale, stroke: () => colour(name), width: 2, points: { show: false }, ...more });
    const pale = () => `color-mix(in srgb, ${colour("--series-backlog")} 28%, transparent)`;
    const positive = (u, low, high) => [0, Math.max(10, (high ?? 0) * 1.1)];
    return {
      ...this.#size(), legend: { show: false }, cursor: { show: false }, padding: [8, 4, 0, 4],
      scales: { x: { time: true, range: () => this.#range() }, records: { range: positive }, rate: { range: positive } },
      axes: [
        { ...axis, space: 80, size: 28, values: times },
        { ...axis, scale: "records", size: 52, values: (u, ticks) => ticks.map(shortText) },
        { ...axis, scale: "rate", side: 1, size: 56, grid: { show: false }, values: perSecond },
      ],
      series: [
        {},
        line("records", "--series-backlog", { width: 1.5, fill: pale }),
        line("rate", "--series-accepted", { dash: [6, 4] }),
        line("rate", "--series-persisted"),
      ],
    };
  }

  #range() {
    const now = Date.now() / 1000;
    return [now - Math.min(span, Math.max(shortest, now - (this.#data[0][0] ?? now))), now];
  }

  // add notes an answer.
  add(backlog, rates) {
    const [times] = this.#data;
    const now = Date.now() / 1000;
    const last = times.at(-1);
    if (last >= now) this.#forget(() => true); // the clock was set back
    if (last < now - gap) this.#push(last + gap / 2, null, null, null);
    this.#push(now, backlog.pending.records, rates.accepted, rates.persisted);
    this.#forget((time) => time < now - span - gap);
    this.#exact = backlog.pending.exact;
    setText(byId("chart-backlog"), this.#exact ? "backlog, writes" : "backlog, at least so many writes");
    if (now - this.#describedAt > 10) this.#describe(now);
  }

  // draw draws what there is, up to now.
  draw() {
    this.#plot.setData(this.#data);
  }

  #push(...values) {
    values.forEach((value, i) => this.#data[i].push(value));
  }

  #forget(old) {
    let n = 0;
    while (n < this.#data[0].length && old(this.#data[0][n])) n++;
    for (const values of this.#data) values.splice(0, n);
  }

  // describe says in words what the chart shows. It is not read out by itself.
  #describe(now) {
    this.#describedAt = now;
    const [times, backlog, accepted, persisted] = this.#data;
    const numbers = (values) => values.filter((v) => v !== null);
    const most = (values) => (numbers(values).length > 0 ? Math.max(...numbers(values)) : null);
    const seconds = Math.max(1, Math.round(Math.min(span, now - times[0])));
    const seen = numbers(backlog);
    const count = (n) => `${this.#exact ? "" : "at least "}${n.toLocaleString("en")}`;
    const waiting = seen.length > 0 ? `between ${count(Math.min(...seen))} and ${count(Math.max(...seen))} writes` : "not known";
    const rates = `${rateText(most(accepted), !this.#exact)} were accepted and ${rateText(most(persisted))} persisted`;
    setText(byId("chart-text"), `In the last ${seconds} seconds the backlog was ${waiting}; at most ${rates}.`);
  }
}
