// What the figures show at one time, beside the pointer or by the arrow keys. The numbers are those of the table.
"use strict";
(() => {
  const names = ["Accepted a second", "Persisted a second", "Backlog", "Until accepted, p50", "p99", "max",
    "Until visible, p50", "p99", "max", "Appends refused", "Appends unknown", "Other calls without success", "Faults"];
  const rows = document.getElementById("buckets").tBodies[0].rows;
  const holder = document.getElementById("figure");
  const readout = holder.querySelector(".readout");

  const line = (name, value) => {
    const row = document.createElement("div");
    for (const text of [name, value]) {
      row.appendChild(document.createElement("span")).textContent = text;
    }
    return row;
  };

  const fill = (row) => {
    const [from, ...cells] = Array.from(row.cells, (cell) => cell.textContent);
    const title = document.createElement("strong");
    title.textContent = "From " + from;
    const lines = cells.map((value, i) => value === "" || value === "–" ? null : line(names[i], value));
    readout.replaceChildren(title, ...lines.filter((l) => l));
  };

  for (const figure of holder.querySelectorAll("svg.figure")) {
    const left = Number(figure.dataset.left), right = Number(figure.dataset.right);
    const cursor = figure.querySelector(".cursor");
    let index = -1;

    const hide = () => {
      index = -1;
      readout.hidden = true;
      cursor.setAttribute("visibility", "hidden");
    };
    const show = (next, top) => {
      next = Math.min(Math.max(next, 0), rows.length - 1);
      if (next !== index) {
        fill(rows[next]);
      }
      index = next;
      const x = left + (right - left) * (index + .5) / rows.length;
      cursor.setAttribute("transform", `translate(${x})`);
      cursor.setAttribute("visibility", "visible");
      readout.hidden = false;
      const box = figure.getBoundingClientRect(), outer = holder.getBoundingClientRect();
      const at = box.left - outer.left + x * box.width / figure.viewBox.baseVal.width;
      const beside = at + 14 + readout.offsetWidth > outer.width ? at - 14 - readout.offsetWidth : at + 14;
      readout.style.left = Math.max(4, Math.min(beside, outer.width - readout.offsetWidth - 4)) + "px";
      readout.style.top = Math.max(4, Math.min(top, outer.height - readout.offsetHeight - 4)) + "px";
    };

    figure.addEventListener("pointermove", (event) => {
      const box = figure.getBoundingClientRect();
      const x = (event.clientX - box.left) * figure.viewBox.baseVal.width / box.width;
      if (x < left || x > right) {
        hide();
        return;
      }
      show(Math.floor((x - left) / (right - left) * rows.length), event.clientY - holder.getBoundingClientRect().top + 16);
    });
    figure.addEventListener("pointerleave", hide);
    figure.addEventListener("blur", hide);
    figure.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -rows.length, End: rows.length };
      if (event.key === "Escape") {
        hide();
      } else if (event.key in steps) {
        event.preventDefault();
        show(index + steps[event.key], 24);
      }
    });
  }
})();
