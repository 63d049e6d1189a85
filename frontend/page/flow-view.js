// What the flow page shows of its model: the path, the numbers, the partitions. Elements change only where what they say
// does.

import { byId, element, setText } from "./api.js";
import { clockText, countText, durationText, levelOf, oldestText, rateText, readyText, shortText } from "./flow-model.js";

const spriteSpace = "http://www.w3.org/2000/svg";

// setBadge shows a state as an icon and a word, so not only by its colour.
export function setBadge(badge, state, word) {
  if (badge.dataset.state === state && badge.dataset.word === word) return;
  [badge.dataset.state, badge.dataset.word] = [state, word];
  badge.className = `badge state ${state}`;
  const icon = document.createElementNS(spriteSpace, "svg");
  const use = document.createElementNS(spriteSpace, "use");
  use.setAttribute("href", `#icon-${state}`);
  icon.setAttribute("aria-hidden", "true");
  icon.append(use);
  badge.replaceChildren(icon, word);
}

// answer shows a verdict and what it means. It is read out when the verdict is another one, not at each new detail.
export function answer(id, state, word, text) {
  const box = byId(id);
  const badge = element("span", {});
  setBadge(badge, state, word);
  box.setAttribute("aria-live", box.querySelector(".badge")?.dataset.word === word ? "off" : "polite");
  box.replaceChildren(element("p", { className: "verdict" }, badge, element("span", { textContent: text })));
}

// ageText says how old a value is that is not of now; nothing for one that is.
const ageText = (source, now) => (source.at > 0 && !source.fresh(now) ? `${durationText(source.age(now) / 1000)} old` : "");

// showHealth shows whether there is an answer, and whether appends and reads work.
export function showHealth(stations, { status }, now) {
  const { backend } = stations;
  setBadge(byId("health-live"), backend.state, backend.state === "good" ? "live" : backend.word);
  for (const [part, yes, no] of [["appends", "work", "do not work"], ["reads", "work", "do not work"], ["persisting", "works", "does not work"]]) {
    const badge = byId(`health-${part}`);
    const working = status.fresh(now) ? status.value[part]?.working ?? null : null; // an older backend does not say
    if (working === null) setBadge(badge, "unknown", "unknown");
    else setBadge(badge, working ? "good" : "bad", working ? yes : no);
  }
}

// showPath shows the stations and what flows between them.
export function showPath(stations, pipes, { backlog }, now) {
  for (const [name, { state, word, detail }] of Object.entries(stations)) {
    const station = byId(`station-${name}`);
    const old = name === "broker" && backlog.value !== null && !backlog.fresh(now); // what its tank shows
    station.className = `station ${state}${old ? " old" : ""}`;
    setBadge(station.querySelector(".badge"), state, word);
    const details = station.querySelector(".detail");
    setText(details, detail);
    details.title = detail;
    if (pipes[name]) showPipe(station.querySelector(".pipe"), pipes[name]);
  }
  const pending = backlog.value?.pending;
  setText(byId("tank-count"), pending ? `${pending.exact ? "" : "≥ "}${shortText(pending.records)}` : "?");
  byId("tank-level").style.transform = `scaleY(${pending ? levelOf(pending.records) : 0})`;
  if (stations.broker.detail === "" && pending) {
    const old = ageText(backlog, now);
    setText(byId("station-broker").querySelector(".detail"), `${waitText(pending)}${old && ` (${old})`}`);
  }
}

function waitText(pending) {
  const { records, exact } = pending;
  if (records === 0) return exact ? "nothing waits" : "none is known to wait";
  return `${countText(pending)} ${records === 1 && exact ? "waits" : "wait"}`;
}

function showPipe(pipe, { state, rate, text }) {
  pipe.className = `pipe ${state}`;
  setText(pipe.querySelector(".rate"), text);
  const moving = pipe.querySelector(".water").getAnimations().find((a) => a.animationName?.startsWith("flow-"));
  if (!moving) return; // for those who want no motion
  if (state === "flowing") {
    moving.updatePlaybackRate(Math.min(4, 0.6 + Math.log10(1 + rate)));
    moving.play();
  } else {
    moving.pause();
  }
}

// showNumbers shows the four numbers. Rates are of now or unknown; the others stay, and are marked when they are old.
export function showNumbers({ backlog, rates }, now) {
  const fresh = backlog.fresh(now);
  const counts = backlog.value;
  const old = ageText(backlog, now);
  const about = counts !== null && !counts.pending.exact;
  const oldest = counts && oldestText(counts, "nothing waits");
  const counted = fresh && about ? "as one backend counts it" : "";
  showTile("accepted", fresh ? rateText(rates.accepted, about) : "unknown", counted);
  showTile("persisted", fresh ? rateText(rates.persisted) : "unknown");
  showTile("backlog", counts ? countText(counts.pending) : "unknown", old || (fresh ? readyText(counts) : ""));
  showTile("oldest", oldest ?? "unknown", oldest === "unknown" ? "" : old);
}

function showTile(name, value, age = "") {
  const tile = byId(`tile-${name}`);
  const shown = tile.querySelector(".value");
  setText(shown, value);
  shown.classList.toggle("unknown", value === "unknown");
  setText(tile.querySelector(".age"), age);
  tile.classList.toggle("old", age.endsWith(" old"));
}

const columns = ["Partition", "Held by", "Waiting", "Oldest", "Persisted so far", "State"];

// showPartitions shows who holds each partition, and how far it is.
export function showPartitions({ backlog, rates }, now) {
  const body = byId("partitions");
  const partitions = backlog.value?.partitions ?? [];
  const fresh = backlog.fresh(now);
  byId("partitions-none").hidden = partitions.length > 0;
  const age = byId("partitions-age");
  age.hidden = partitions.length === 0 || fresh;
  setText(age, ageText(backlog, now));
  body.classList.toggle("old", !fresh);
  while (body.rows.length > partitions.length) body.lastElementChild.remove();
  while (body.rows.length < partitions.length) body.append(newRow());
  partitions.forEach((p, i) => showPartition(body.rows[i].cells, p, fresh ? rates.partitions[i] ?? null : null, fresh));
}

function newRow() {
  const row = element("tr");
  row.setAttribute("role", "row");
  columns.forEach((label, i) => {
    const cell = element("td", { className: i >= 2 && i <= 4 ? "right" : "" });
    cell.setAttribute("role", i === 0 ? "rowheader" : "cell");
    cell.dataset.label = label;
    row.append(cell);
  });
  row.lastElementChild.append(element("span", { className: "badge state" }), element("span", { className: "reason" }));
  return row;
}

function showPartition(cells, p, rate, fresh) {
  setText(cells[0], String(p.partition));
  setText(cells[1], p.owner === "" ? "somebody" : p.owner ?? "nobody");
  setText(cells[2], countText(p.pending));
  setText(cells[3], oldestText(p, "none"));
  setText(cells[4], `${p.persisted.toLocaleString("en")}${rate > 0 ? ` (+${rateText(rate)})` : ""}`);
  const [state, word, reason] = partitionState(p, fresh);
  setBadge(cells[5].firstElementChild, state, word);
  setText(cells[5].lastElementChild, reason);
}

function partitionState(p, fresh) {
  if (!fresh) return ["unknown", "unknown", ""];
  if (p.missing.length > 0) return ["bad", "records missing", "see the dead letters"];
  if (p.owner === null) return ["waiting", "waits", "no claim on it is in force"];
  if (p.stalled !== null) return ["bad", "stalled", p.stalled];
  if (p.pending.records > 0) return ["good", "draining", ""];
  return p.pending.exact ? ["good", "drained", ""] : ["good", "held", "none is known to wait"];
}

// Announcer says what has changed in a live region: not numbers, and never more often than every five seconds.
export class Announcer {
  #said = "";
  #at = -Infinity;

  announce(key, text, now) {
    if (key === this.#said || now - this.#at < 5000) return;
    const first = this.#said === "";
    [this.#said, this.#at] = [key, now];
    if (!first) setText(byId("announcer"), `${clockText(new Date())}: ${text}`);
  }
}
