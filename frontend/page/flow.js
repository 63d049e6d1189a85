// The flow page: asks the API once a second, and shows what it says. What is made of the answers is in flow-model.js, what
// is shown of that in flow-view.js and flow-chart.js, what can be done in flow-actions.js and flow-letters.js.

import { api, byId, pause, setText } from "./api.js";
import { Barrier, PauseSwitch } from "./flow-actions.js";
import { Chart } from "./flow-chart.js";
import { Letters } from "./flow-letters.js";
import { Rates, Source, noRates, pipesOf, sentenceOf, stationsOf } from "./flow-model.js";
import { Announcer, showHealth, showNumbers, showPartitions, showPath } from "./flow-view.js";

const period = 1000; // ms between two questions
const lettersPeriod = 5000;
const answerTime = 4000; // ms for an answer; the status takes up to 2 s by itself

const sources = { status: new Source(), backlog: new Source(), pause: new Source() };
const rates = new Rates();
let newest = noRates; // the rates of the newest answer
const announcer = new Announcer();
const pauseSwitch = new PauseSwitch(sources.pause);
const chart = new Chart();
const letters = new Letters();
new Barrier();

// visible waits until somebody can see the page.
function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true })).then(visible);
}

// every does something again and again while the page can be seen; never twice at once.
async function every(ms, work) {
  for (;;) {
    await visible();
    const began = performance.now();
    await work();
    await pause(Math.max(200, ms - (performance.now() - began)));
  }
}

// keep asks for a source, and shows it.
async function keep(source, question, took = () => {}) {
  if (await source.ask(question)) took(source.value, source.at);
  show();
}

// show shows everything as it is known now.
function show() {
  const now = performance.now();
  const model = { ...sources, rates: newest, resumedAt: pauseSwitch.resumedAt };
  const stations = stationsOf(model, now);
  const sentence = sentenceOf(stations, model, now);
  showHealth(stations, model, now);
  showPath(stations, pipesOf(stations, model, now), model, now);
  showNumbers(model, now);
  showPartitions(model, now);
  pauseSwitch.show(now);
  setText(byId("sentence"), sentence);
  announcer.announce(Object.values(stations).map((s) => s.word).join(), sentence, now);
}

every(period, () => keep(sources.status, () => api.working({ timeout: answerTime })));
every(period, () => keep(sources.backlog, () => api.backlog({ timeout: answerTime }), (backlog, at) => {
  newest = rates.add(backlog, at);
  chart.add(backlog, newest);
}));
every(period, async () => {
  if (sources.pause.at > 0 && sources.pause.value === null) return; // there is none, as long as this process runs
  await keep(sources.pause, () => pauseSwitch.ask());
});
every(lettersPeriod, () => letters.check());
every(period, () => { // also while nothing answers: ages grow, and so does the gap in the chart
  show();
  chart.draw();
});
