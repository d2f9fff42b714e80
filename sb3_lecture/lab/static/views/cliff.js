// The cliff: two learners above each other, their greedy ways, and their returns while they learn.

import { chart } from "../chart.js";
import { SIGNS, cellUnder, drawGrid, explorer, frame, layout, moveCursor, path } from "../grid.js";
import { choice, codeButton, css, drawing, equation, linkButton, make, number, problemLine, slider, transport } from "../parts.js";

const SIDES = ["learner", "other"];
const COLOURS = { learner: "--accent", other: "--second" };

export function render({ model, el }) {
  let cursor = null; // [side, row, column]
  let hovering = false;
  let places = {};
  const { canvas, redraw } = drawing("Two cliffs, one for each learner. Arrow keys move from cell to cell, Tab leaves.", draw);
  canvas.tabIndex = 0;
  const readout = make("div", { class: "readout", role: "status", "aria-live": "polite" });
  const curve = chart("Return of each episode, mean of the last ten", [
    { label: "above", color: COLOURS.learner }, { label: "below", color: COLOURS.other },
    { label: "best with ε", color: "--soft", dash: [6, 4] }, { label: "optimum", color: "--mark", dash: [2, 3] },
  ], { xLabel: "episode", range: (u, low, high) => [Math.max(-120, low ?? -120), 0], atLeast: 10 });

  const name = (side) => {
    const control = model.hello.controls.find((c) => c.name === side);
    return control.options[model.get("settings")[side]];
  };

  function draw(context, width, height) {
    const { rows, cells } = model.get("grid") ?? {};
    if (!rows) return;
    const gap = Math.max(22, height * 0.05);
    const half = (height - 8) / 2;
    places = {};
    SIDES.forEach((side, i) => {
      const it = model.get("sides")[side];
      const place = layout(rows, width, half - gap);
      place.top = Math.round(i * half + gap + Math.max(0, (half - gap - place.cell * place.h) / 2));
      places[side] = place;
      context.font = `600 ${Math.max(14, height / 36)}px ${getComputedStyle(document.body).fontFamily}`;
      context.textAlign = "left";
      context.textBaseline = "bottom";
      context.fillStyle = css(COLOURS[side]);
      context.fillText(name(side), place.left, place.top - 4);
      drawGrid(context, place, rows, cells, (s) => ({ value: it.values[s], arrows: it.flat[s] ? [] : [it.greedy[s]] }), { largest: 25, height });
      const at = (states) => states.map((s) => cells[s]);
      path(context, place, at(model.get("soft").way), "--soft", { dash: [6, 5], shift: 3 });
      path(context, place, at(it.way), COLOURS[side]);
      explorer(context, place, cells[it.state]);
      if (cursor && cursor[0] === side && (hovering || document.activeElement === canvas)) frame(context, place, cursor.slice(1), "--accent");
    });
  }

  // ---- mouse and keyboard

  canvas.addEventListener("pointermove", (event) => {
    hovering = true;
    cursor = null;
    for (const side of SIDES) {
      const cell = cellUnder(event, canvas, model.get("grid").rows, places[side]);
      if (cell) cursor = [side, ...cell];
    }
    tell();
  });
  canvas.addEventListener("pointerleave", () => { hovering = false; tell(); });
  canvas.addEventListener("keydown", (event) => {
    const { rows } = model.get("grid");
    const [side, r, c] = cursor ?? ["learner", 0, 0];
    let next = moveCursor([r, c], event.key, rows);
    if (!next || event.ctrlKey || event.metaKey) return;
    let on = side;
    if (event.key === "ArrowDown" && r === rows.length - 1 && side === "learner") [on, next] = ["other", [0, c]];
    if (event.key === "ArrowUp" && r === 0 && side === "other") [on, next] = ["learner", [rows.length - 1, c]];
    cursor = [on, ...next];
    event.preventDefault();
    tell();
  });

  function tell() {
    redraw();
    if (!cursor || !(hovering || document.activeElement === canvas)) {
      readout.textContent = "Lines are greedy ways; the dashed one is the best way for who makes a random move now and then.";
      return;
    }
    const [side, r, c] = cursor;
    const s = model.get("grid").cells.findIndex(([a, b]) => a === r && b === c);
    const it = model.get("sides")[side];
    readout.textContent = `${name(side)}, row ${r}, column ${c}: value ${number(it.values[s], 2)}, greedy ${SIGNS[it.greedy[s]]}`;
  }

  // ---- figures

  const cells = {};
  const figure = (key, title) => {
    cells[key] = { learner: make("td", { "data-figure": `${key}-learner` }), other: make("td", { "data-figure": `${key}-other` }), best: make("td", { "data-figure": `${key}-best` }) };
    return make("tr", {}, make("th", { scope: "row" }, title), cells[key].learner, cells[key].other, cells[key].best);
  };
  const heads = { learner: make("th", { scope: "col" }), other: make("th", { scope: "col" }) };
  const table = make("table", {}, make("thead", {}, make("tr", {}, make("th", {}), heads.learner, heads.other, make("th", { scope: "col" }, "best"))),
    make("tbody", {}, figure("online", "exploring"), figure("greedy", "greedy"), figure("recent", "last ten")));

  const proxies = Object.fromEntries(SIDES.map((side) => [side, {
    get: (key) => {
      if (key === "learned") return model.get("sides")?.[side].learned;
      if (key === "settings") return { ...model.get("settings"), learner: model.get("settings")[side] };
      return model.get(key);
    },
    on: (event, callback) => model.on(event, callback),
  }]));

  const update = () => {
    const sides = model.get("sides");
    if (!sides) return;
    const [best, soft] = [model.get("best").value, model.get("soft").value];
    for (const side of SIDES) {
      const { online, regret, returns } = sides[side];
      heads[side].textContent = name(side);
      cells.online[side].textContent = online === null ? "−∞" : number(online, 1);
      cells.greedy[side].textContent = regret === null ? "never arrives" : number(best - regret, 1);
      cells.recent[side].textContent = returns.length ? number(returns[returns.length - 1], 1) : "–";
    }
    cells.online.best.textContent = number(soft, 1);
    cells.greedy.best.textContent = number(best, 1);
    const n = Math.max(...SIDES.map((side) => sides[side].returns.length));
    const column = (side) => Array.from({ length: n }, (_, i) => sides[side].returns[i] ?? null);
    curve.set([Array.from({ length: n }, (_, i) => i + 1), column("learner"), column("other"), Array(n).fill(soft), Array(n).fill(best)]);
    tell();
  };
  model.on("change", update);

  const names = { state: (s) => s, action: (a) => SIGNS[a] };
  el.append(make("div", { class: "page" },
    make("section", { class: "stage", "aria-label": "The demo" },
      problemLine(model),
      make("div", { class: "canvas card" }, canvas),
      readout,
      equation(proxies.learner, names), equation(proxies.other, names),
      transport(model)),
    make("section", { class: "panel", "aria-label": "Settings" },
      make("div", { class: "card sliders" },
        make("div", { class: "row" }, choice(model, "learner"), choice(model, "other")),
        ...[["alpha", "gamma"], ["slip", "seed"], ["epsilon", "runs"]].map((keys) => make("div", { class: "pair" }, ...keys.map((key) => slider(model, key))))),
      make("div", { class: "card" }, make("div", { class: "soft" }, "Return from the start: exactly, and seen"), table),
      make("div", { class: "card stage grow" }, curve.key, curve.box),
      make("div", { class: "row" }, codeButton(model, "Python: both tables, to the last bit"), linkButton()))));
  update();
}
