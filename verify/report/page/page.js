// The figure: uPlot draws its panels from the numbers in the page. What it shows at one time is beside the pointer, or by the
// arrow keys; those texts are the table's.
const run = JSON.parse(document.getElementById("data").textContent);
const holder = document.getElementById("figure");
const readout = holder.querySelector(".readout");
const faults = Array.from(holder.querySelectorAll(".fault"));
const boxes = Array.from(holder.querySelectorAll(".plot"));
const rows = document.getElementById("buckets").tBodies[0].rows;
const names = ["Accepted a second", "Persisted a second", "Backlog", "Until accepted, p50", "p99", "max",
  "Until visible, p50", "p99", "max", "Appends refused", "Appends unknown", "Other calls without success", "Faults"];
const times = Array.from({ length: run.buckets + 1 }, (_, i) => i * run.width);
const colour = (name, of = holder) => getComputedStyle(of).getPropertyValue(name).trim();

const digits = (n) => String(Number(n.toPrecision(2)));
const duration = (ms) => ms < 1000 ? `${digits(ms)} ms` : ms < 60_000 ? `${digits(ms / 1000)} s` : `${digits(ms / 60_000)} min`;
const short = (n) => n >= 1e6 ? `${n / 1e6}M` : n >= 1e4 ? `${n / 1e3}k` : n.toLocaleString("en");
const clock = (s) => {
  if (run.length < 10) return `${Number(s.toFixed(2))} s`;
  const [hours, minutes] = [Math.floor(s / 3600), Math.floor(s / 60)];
  const two = (n) => String(n % 60).padStart(2, "0");
  return (hours > 0 ? `${hours}:${two(minutes)}` : minutes) + ":" + two(Math.floor(s));
};

// stairs draws a line with a step for each bucket, but for those that the series skips.
const stairs = (series) => (u) => {
  const stroke = new Path2D(), values = series.values;
  const x = (i) => u.valToPos(times[i], "x", true), y = (i) => u.valToPos(values[i], "y", true);
  for (let i = 0; i < run.buckets; i++) {
    if (values[i] === null || series.skip?.[i]) continue;
    stroke.moveTo(x(i), y(i > 0 && values[i - 1] !== null ? i - 1 : i));
    stroke.lineTo(x(i), y(i));
    stroke.lineTo(x(i + 1), y(i));
  }
  return { stroke };
};

// bars draws what a series has more than the next one, on which it stands. One call among thousands is seen.
const bars = (series, next) => (u) => {
  const fill = new Path2D(), least = 2 * devicePixelRatio;
  const x = (i) => u.valToPos(times[i], "x", true), y = (v) => u.valToPos(v, "y", true);
  series.values.forEach((value, i) => {
    const from = next?.values[i] ?? 0;
    if (value === from) return;
    const height = Math.max(y(from) - y(value), least);
    fill.rect(x(i), y(from) - height, Math.max(x(i + 1) - x(i), 1), height);
  });
  return { fill };
};

// A line at the very edge would be cut in half.
const linear = { range: (u, low, high) => [-.015, 1].map((part) => part * uPlot.rangeNum(0, high || 1, .05, true)[1]) };
const power = (v, round) => 10 ** round(Math.log10(Math.max(v, .1)));
const logarithmic = { distr: 3, range: (u, low, high) => [power(low, Math.floor) * .95, Math.max(power(high, Math.ceil), 10 * power(low, Math.floor))] };
const powers = (u) => {
  const splits = [];
  for (let v = power(u.scales.y.min * 1.06, Math.floor); v <= u.scales.y.max; v *= 10) splits.push(v);
  return splits;
};

let plots = [];
const draw = () => {
  plots.forEach((p) => p.destroy());
  const axis = {
    stroke: () => colour("--muted"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false },
    font: "11.5px system-ui, sans-serif",
  };
  const drawn = run.panels.filter((p) => p.series);
  plots = drawn.map((panel, n) => {
    const last = n === drawn.length - 1, height = last ? 136 : 112, tones = boxes[n].parentElement;
    boxes[n].style.height = height + "px";
    return new uPlot({
      width: boxes[n].clientWidth, height, padding: [6, parseFloat(colour("--right")), last ? 0 : 6, 0], legend: { show: false },
      cursor: { sync: { key: "run" }, y: false, drag: { x: false }, points: { show: false } },
      scales: { x: { time: false, range: [0, times.at(-1)] }, y: panel.log ? logarithmic : linear },
      axes: [
        { ...axis, show: last, size: 24, gap: 4, grid: { show: false }, space: 70, incrs: [.1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900,
          1800, 3600, 7200, 10800, 21600, 43200, 86400, 864000], values: (u, at) => at.map(clock) },
        { ...axis, size: parseFloat(colour("--left")), gap: 4, space: 24, filter: (u, at) => at.map((v) => v < 0 ? null : v),
          values: (u, at) => at.map((v) => v === null ? "" : panel.log ? duration(v) : short(v)), ...(panel.log && { splits: powers }) },
      ],
      series: [{}, ...panel.series.map((s, i) => {
        const tone = () => colour("--tone", tones.querySelector("." + s.class));
        const paths = panel.bars ? bars(s, panel.series[i + 1]) : stairs(s);
        return { stroke: tone, fill: panel.bars ? tone : undefined, width: panel.bars ? 0 : s.class === "max" ? 1 : 1.6,
          dash: s.dashed ? [3, 2] : undefined, points: { show: false }, paths };
      })],
      hooks: { setCursor: [show] },
    }, [times, ...panel.series.map((s) => [...s.values, null])], boxes[n]);
  });
};

// place puts each fault, with what there is room for of its label, into the first row that has room.
const place = () => {
  const strip = holder.querySelector(".faults");
  for (const labels of ["names", "numbers", "none"]) {
    strip.dataset.labels = labels;
    const ends = [0, 0, 0, 0, 0];
    let fits = true;
    for (const fault of faults) {
      const [bar, label] = [fault.offsetLeft, fault.firstElementChild];
      const wide = label.offsetWidth, before = bar + fault.offsetWidth + wide > strip.clientWidth;
      fault.classList.toggle("before", before);
      const begin = before ? bar - wide : bar;
      const row = ends.findIndex((end) => end <= begin);
      fits &&= row >= 0;
      fault.style.setProperty("--row", row < 0 ? 4 : row);
      ends[row < 0 ? 4 : row] = bar + fault.offsetWidth + (before ? 0 : wide);
    }
    holder.style.setProperty("--rows", faults.length > 0 ? ends.filter((end) => end > 0).length : 0);
    if (fits) break;
  }
  const bottom = boxes.at(-1)?.getBoundingClientRect().bottom ?? 0;
  holder.style.setProperty("--tall", Math.max(0, bottom - strip.getBoundingClientRect().top - 24) + "px");
};

const line = (name, value) => {
  const row = document.createElement("div");
  for (const text of [name, value]) row.appendChild(document.createElement("span")).textContent = text;
  return row;
};

// show says what a step of the figure has, beside the cursor.
const show = (u) => {
  const { left } = u.cursor;
  const hide = !(left >= 0);
  readout.hidden = hide;
  if (hide || u !== plots[0]) return;
  const row = rows[Math.min(Math.max(Math.floor(u.posToVal(left, "x") / run.width), 0), rows.length - 1)];
  const [from, ...cells] = Array.from(row.cells, (cell) => cell.textContent);
  const title = document.createElement("strong");
  title.textContent = "From " + from;
  readout.replaceChildren(title, ...cells.flatMap((value, i) => value === "" || value === "–" ? [] : [line(names[i], value)]));
  const at = u.over.getBoundingClientRect().left - holder.getBoundingClientRect().left + left, wide = readout.offsetWidth;
  const beside = at + 14 + wide > holder.clientWidth ? at - 14 - wide : at + 14;
  readout.style.left = Math.max(4, Math.min(beside, holder.clientWidth - wide - 4)) + "px";
};

let step = -1;
const move = (to) => {
  step = Math.min(Math.max(to, -1), run.buckets - 1);
  plots[0].setCursor({ left: step < 0 ? -10 : plots[0].valToPos((step + .5) * run.width, "x"), top: 0 });
};
holder.addEventListener("blur", () => move(-1));
holder.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -run.buckets, End: run.buckets };
  if (event.key === "Escape") {
    move(-1);
  } else if (event.key in steps) {
    event.preventDefault();
    move(Math.max(step + steps[event.key], 0));
  }
});

let width = 0;
const fit = () => {
  if (width === holder.clientWidth) return;
  width = holder.clientWidth;
  draw();
  place();
};
fit();
new ResizeObserver(() => requestAnimationFrame(fit)).observe(holder);
for (const query of ["(prefers-color-scheme: dark)", "print"]) {
  matchMedia(query).addEventListener("change", () => plots.forEach((p) => p.redraw(false)));
}
