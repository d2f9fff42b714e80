// Treasure line: a row of cells, two values in each, and what the last step changed.

import { chart } from "../chart.js";
import { arrow, choice, codeButton, css, drawing, equation, inkOn, linkButton, make, mix, number, problemLine, regretFigure, slider, transport } from "../parts.js";

const SIGNS = ["←", "→"];

export function render({ model, el }) {
  const { canvas, redraw } = drawing("The line of cells with the values of moving left and right", draw);
  const line = make("pre", { class: "soft", "aria-hidden": "true" });
  const lengths = chart("Steps of each episode", [
    { label: "steps of the episode", color: "--accent" }, { label: "fewest possible", color: "--second", dash: [6, 4] },
  ], { xLabel: "episode", min: 0 });
  const readout = make("div", { class: "readout", role: "status", "aria-live": "polite" });

  function draw(context, width, height) {
    const learned = model.get("learned");
    const n = model.get("n");
    if (!learned) return;
    const cell = Math.min((width - 16) / n, Math.max(150, height / 3));
    const [left, bar] = [(width - cell * n) / 2, Math.max(40, Math.min(Math.max(150, height / 3), height - 190))];
    const top = Math.max(8, (height - (Math.min(cell * 0.62, Math.max(90, height / 5)) + bar + 80)) / 2);
    const box = Math.min(cell * 0.62, Math.max(90, height / 5));
    const last = learned.transition;
    const font = (size) => `${Math.max(12, size)}px ${getComputedStyle(document.body).fontFamily}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let s = 0; s < n; s++) {
      const x = left + s * cell;
      const goal = s === n - 1;
      const value = goal ? 0 : Math.max(...learned.q[s]);
      const fill = mix(css("--zero"), css(value < 0 ? "--minus" : "--plus"), Math.min(1, Math.abs(value)));
      context.fillStyle = fill;
      context.fillRect(x + 2, top, cell - 4, box);
      context.strokeStyle = css("--grid");
      context.lineWidth = 1;
      context.strokeRect(x + 2.5, top + 0.5, cell - 5, box - 1);
      if (goal) {
        context.fillStyle = "#f5c518";
        context.beginPath();
        context.arc(x + cell / 2, top + box / 2, Math.min(box, cell) * 0.3, 0, 7);
        context.fill();
        context.strokeStyle = "#6b5400";
        context.stroke();
      }
      if (learned.state === s || (last && (last.terminated || last.truncated) && last.next_state === s)) {
        const size = Math.min(box, cell) * 0.34;
        context.fillStyle = "#d7301f";
        context.fillRect(x + cell / 2 - size / 2, top + box / 2 - size / 2, size, size);
        context.strokeStyle = "#ffffff";
        context.lineWidth = 2;
        context.strokeRect(x + cell / 2 - size / 2, top + box / 2 - size / 2, size, size);
      } else if (!goal) {
        const [a, b] = learned.q[s];
        if (a !== b) {
          context.strokeStyle = inkOn(fill);
          arrow(context, x + cell / 2, top + box / 2, a > b ? -1 : 1, 0, Math.min(cell, box) * 0.5, 2);
        }
      }
      context.fillStyle = css("--soft");
      context.font = font(12);
      context.fillText(goal ? "treasure" : String(s), x + cell / 2, top + box + 12);
      if (goal) continue;
      // two bars a cell: what is learned, filled; the optimum, a line
      const base = top + box + 26 + bar;
      const largest = Math.max(1, ...learned.optimal_q.flat().map(Math.abs));
      for (const a of [0, 1]) {
        const w = Math.max(6, cell * 0.3);
        const bx = x + cell / 2 + (a === 0 ? -w - 3 : 3);
        const q = learned.q[s][a];
        const changed = last && last.state === s && last.action === a;
        context.fillStyle = changed ? css("--lit") : css("--zero");
        context.fillRect(bx, base - bar, w, bar);
        context.fillStyle = css(q < 0 ? "--minus" : "--plus");
        const h = Math.min(1, Math.abs(q) / largest) * bar;
        context.fillRect(bx, base - h, w, h);
        const best = base - (Math.max(0, learned.optimal_q[s][a]) / largest) * bar;
        context.strokeStyle = css("--second");
        context.lineWidth = 3;
        context.beginPath();
        context.moveTo(bx - 2, best);
        context.lineTo(bx + w + 2, best);
        context.stroke();
        context.fillStyle = css("--soft");
        context.font = font(14);
        context.fillText(SIGNS[a], bx + w / 2, base + 10);
        if (cell >= 84) {
          const middle = x + cell * (a === 0 ? 0.27 : 0.73);
          context.font = font(13);
          context.fillStyle = css("--ink");
          context.fillText(number(q, 3), middle, base + 28);
          context.fillStyle = css("--second");
          context.fillText(number(learned.optimal_q[s][a], 3), middle, base + 46);
        }
      }
    }
  }

  const update = () => {
    redraw();
    const learned = model.get("learned");
    if (!learned) return;
    const n = model.get("n");
    const t = learned.transition;
    const place = t && (t.terminated || t.truncated) ? t.next_state : learned.state;
    line.textContent = [..."-".repeat(n - 1), "T"].map((c, i) => (i === place ? "o" : c)).join("");
    const first = learned.episodes - learned.lengths.length + 1;
    const xs = learned.lengths.map((_, i) => first + i);
    lengths.set([xs, learned.lengths, xs.map(() => n - 1)]);
    const mean = learned.lengths.slice(-10);
    readout.textContent = learned.lengths.length
      ? `Episodes: ${number(learned.episodes)}. Last ten took ${number(mean.reduce((a, b) => a + b, 0) / mean.length, 1)} steps on average; ${n - 1} are enough.`
      : "No episode has ended yet. Blue bars are what is learned, orange lines the exact optimum.";
  };
  model.on("change", update);

  el.append(make("div", { class: "page" },
    make("section", { class: "stage", "aria-label": "The demo" },
      problemLine(model),
      make("div", { class: "canvas low card" }, canvas),
      make("div", { class: "row" }, line, readout),
      equation(model, { state: (s) => s, action: (a) => SIGNS[a] }),
      transport(model)),
    make("section", { class: "panel", "aria-label": "Settings" },
      make("div", { class: "card sliders" }, choice(model, "learner"),
        ...["n", "alpha", "gamma", "epsilon", "seed"].map((name) => slider(model, name))),
      make("div", { class: "card" }, regretFigure(model)),
      make("div", { class: "card chart-card stage grow" }, lengths.key, lengths.box),
      make("div", { class: "row" }, codeButton(model), linkButton()))));
  update();
}
