// A search tree: nodes as circles, visits as thickness; a click on a node shows N, Q, P, U and the score of each of its edges.

import { chart } from "../chart.js";
import { choice, codeButton, css, drawing, inkOn, linkButton, make, mix, number, problemLine, slider, transport } from "../parts.js";

export function render({ model, el }) {
  let chosen = 0; // the node whose edges are shown
  let follow = true; // show where the last simulation went until a node is chosen
  const { canvas, redraw } = drawing("The search tree. Arrow keys go to parent, children and siblings.", draw);
  canvas.tabIndex = 0;
  const readout = make("div", { class: "readout", role: "status", "aria-live": "polite" });
  const body = make("tbody");
  const heads = ["Move", "N", "Q", "Exact", "P", "U", "Score"];
  const table = make("table", { class: "moves" }, make("caption", { class: "soft" }), make("thead", {}, make("tr", {}, ...heads.map((title) => make("th", { scope: "col" }, title)))), body);
  const curve = chart("Value of the root after each simulation", [
    { label: "the root's mean value", color: "--accent" }, { label: "exact", color: "--second", dash: [6, 4] },
  ], { xLabel: "simulations", range: [-1.1, 1.1], atLeast: 10 });
  const line = make("input", { type: "text", "data-control": "moves", "aria-label": "Moves so far", spellcheck: false, autocomplete: "off" });
  line.addEventListener("change", () => { model.set("moves", line.value); model.save_changes(); });

  const tree = () => model.get("tree");
  const names = () => model.get("names");
  const children = (node) => tree().parent.map((p, i) => (p === node ? i : -1)).filter((i) => i > 0).sort((a, b) => tree().action[a] - tree().action[b]);
  const best = (node) => { // the exact value of a node for the side to move, or null
    const known = tree().exact[node].filter((x) => x !== null);
    return known.length ? Math.max(...known) : null;
  };

  // ---- layout: leaves side by side, parents above the middle of their children

  let places = [];

  function layout(width, height) {
    const { parent } = tree();
    const margin = Math.min(width * 0.2, Math.max(110, height * 0.2)); // of the small position on the left
    const below = parent.map(() => []);
    parent.forEach((p, i) => { if (p >= 0) below[p].push(i); });
    below.forEach((list) => list.sort((a, b) => tree().action[a] - tree().action[b]));
    const depth = parent.map(() => 0);
    for (let i = 1; i < parent.length; i++) depth[i] = depth[parent[i]] + 1; // parents come first
    const deepest = Math.max(3, ...depth);
    const x = parent.map(() => 0);
    let leaves = 0;
    const walk = (node) => {
      if (!below[node].length) x[node] = leaves++;
      else {
        below[node].forEach(walk);
        x[node] = (x[below[node][0]] + x[below[node][below[node].length - 1]]) / 2;
      }
    };
    walk(0);
    const size = Math.max(1, Math.min((width - margin) / 800, height / 480)); // of circles, on large screens
    const step = (width - margin - 30) / Math.max(8, leaves);
    const middle = margin + (width - margin) / 2;
    const row = (height - 58 * size) / deepest;
    return { step, row, size, margin, at: parent.map((_, i) => [middle + (leaves === 1 ? 0 : (x[i] - (leaves - 1) / 2) * step), 28 * size + depth[i] * row]) };
  }

  function draw(context, width, height) {
    const now = tree();
    const family = getComputedStyle(document.body).fontFamily;
    const font = (size) => { context.font = `${Math.max(12, Math.min(Math.max(20, height / 40), size))}px ${family}`; };
    context.textAlign = "center";
    context.textBaseline = "middle";
    if (!now) return thumbnail(context, model.get("boards")?.[0], width / 2 - height / 4, height / 4, height / 2);
    const { step, row, size, margin, at } = layout(width, height);
    places = at;
    const lit = new Set((model.get("last") ?? []).map(({ child }) => child));
    const total = Math.max(1, now.visits[0].reduce((a, b) => a + b, 0));
    for (let i = 1; i < now.parent.length; i++) {
      const [[x1, y1], [x2, y2]] = [at[now.parent[i]], at[i]];
      const n = now.visits[now.parent[i]][now.action[i]];
      context.strokeStyle = lit.has(i) ? css("--mark") : css("--grid");
      context.lineWidth = size * Math.max(lit.has(i) ? 3 : 1, 14 * (n / total));
      context.beginPath();
      context.moveTo(x1, y1);
      context.bezierCurveTo(x1, y1 + row * 0.5, x2, y2 - row * 0.5, x2, y2);
      context.stroke();
    }
    const room = Math.min(row * 0.42, Math.max(30, height / 22));
    for (let i = now.parent.length - 1; i >= 0; i--) {
      const [x, y] = at[i];
      const [p, a] = [now.parent[i], now.action[i]];
      const n = i === 0 ? total : now.visits[p][a];
      const q = i === 0 ? now.root_value : now.q[p][a];
      const radius = Math.max(4, Math.min(room, Math.max(step * 0.46, i === 0 ? 18 : 4), size * (6 + 20 * Math.sqrt(n / total))));
      const fill = mix(css("--zero"), css((q ?? 0) < 0 ? "--minus" : "--plus"), Math.min(1, Math.abs(q ?? 0)));
      context.beginPath();
      if (now.ends[i]) context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
      else context.arc(x, y, radius, 0, 7);
      context.fillStyle = fill;
      context.fill();
      context.strokeStyle = i === chosen ? css("--accent") : lit.has(i) ? css("--mark") : css("--wall");
      context.lineWidth = i === chosen ? 4 : lit.has(i) ? 3 : 1.2;
      context.stroke();
      context.fillStyle = inkOn(fill);
      font(radius * 0.8);
      if (radius >= 14) context.fillText(i === 0 && !(model.get("last") ?? []).length ? "0" : String(n), x, y);
      if (i > 0 && step >= 22 && row >= 44) {
        context.fillStyle = css("--soft");
        font(11 * size);
        const name = names()[a];
        context.fillText(step < 40 && name.length > 3 ? { up: "↑", right: "→", down: "↓", left: "←" }[name] ?? name : name, x, y + radius + 4 + 5 * size);
      }
    }
    thumbnail(context, model.get("boards")[chosen], 8, 8, margin - 16);
  }

  // ---- the position of the chosen node, small

  function thumbnail(context, cells, left, top, size) {
    const drawn = model.hello.info.drawn[model.get("drawn")];
    const map = model.hello.info.maze;
    const grid = drawn === "maze" ? map : cells;
    if (!grid) return;
    const cell = size / Math.max(grid.length, grid[0].length);
    context.fillStyle = css("--card");
    context.fillRect(left - 3, top - 3, cell * grid[0].length + 6, cell * grid.length + 6);
    let state = 0;
    for (let r = 0; r < grid.length; r++) {
      for (let c = 0; c < grid[0].length; c++) {
        const [x, y] = [left + c * cell, top + r * cell];
        context.strokeStyle = css("--grid");
        context.lineWidth = 1;
        context.fillStyle = css("--zero");
        context.fillRect(x, y, cell, cell);
        context.strokeRect(x, y, cell, cell);
        const [mx, my, radius] = [x + cell / 2, y + cell / 2, cell * 0.32];
        if (drawn === "maze") {
          const symbol = grid[r][c];
          if (symbol === "P") { context.fillStyle = css("--pit"); context.fillRect(x + cell * 0.2, y + cell * 0.2, cell * 0.6, cell * 0.6); }
          if (symbol === "G") { context.fillStyle = "#f5c518"; context.beginPath(); context.arc(mx, my, radius, 0, 7); context.fill(); }
          if (symbol !== "#" && state++ === cells) { context.fillStyle = "#d7301f"; context.fillRect(x + cell * 0.28, y + cell * 0.28, cell * 0.44, cell * 0.44); }
        } else if (grid[r][c]) {
          context.strokeStyle = css(grid[r][c] > 0 ? "--plus" : "--minus");
          context.lineWidth = Math.max(2, cell * 0.12);
          context.beginPath();
          if (grid[r][c] > 0) {
            context.moveTo(mx - radius, my - radius);
            context.lineTo(mx + radius, my + radius);
            context.moveTo(mx - radius, my + radius);
            context.lineTo(mx + radius, my - radius);
          } else context.arc(mx, my, radius, 0, 7);
          context.stroke();
        }
      }
    }
  }

  // ---- mouse and keyboard

  const pick = (node) => { chosen = node; follow = false; update(); };
  canvas.addEventListener("click", (event) => {
    if (!tree()) return;
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const far = places.map(([a, b]) => (a - x) ** 2 + (b - y) ** 2);
    const nearest = far.indexOf(Math.min(...far));
    if (far[nearest] < 900) pick(nearest);
  });
  canvas.addEventListener("keydown", (event) => {
    if (!tree() || event.ctrlKey || event.metaKey) return;
    const p = tree().parent[chosen];
    const line_ = p >= 0 ? children(p) : [0];
    const next = {
      ArrowUp: p >= 0 ? p : 0, ArrowDown: children(chosen)[0] ?? chosen,
      ArrowLeft: line_[Math.max(0, line_.indexOf(chosen) - 1)], ArrowRight: line_[Math.min(line_.length - 1, line_.indexOf(chosen) + 1)],
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    pick(next);
  });

  // ---- one edge of the last simulation: how it was chosen, and what it changed

  const equation = make("div", { class: "equation card", role: "group", "aria-label": "The last simulation on one edge, with its numbers" });
  const term = (symbol, value, lit = false) => make("span", { class: `term${lit ? " lit" : ""}`, "data-term": symbol }, make("b", {}, symbol), make("span", {}, value));
  const sign = (text) => make("span", { class: "sign" }, text);
  const WORDS = {
    puct: ["Q̄", "c P √ΣN / (1 + N)"], uct: ["Q", "c √(ln ΣN / N)"], gumbel: ["σ(Q̄)", "g + log P"], below: ["π′", "−N / (1 + ΣN)"],
  };
  function showEquation() {
    const last = model.get("last") ?? [];
    const step = last.find(({ child }) => child === chosen) ?? last[0];
    if (!step) {
      equation.replaceChildren(make("span", { class: "soft" }, "One simulation goes down the tree by the largest score, adds a leaf, values it and carries the value back up."));
      return;
    }
    const selection = model.get("settings").selection;
    const [value, bonus] = WORDS[selection === "gumbel" && step.node > 0 ? "below" : selection];
    const move = names()[step.action];
    equation.replaceChildren(
      term(`chosen: ${move}`, step.score === null ? "∞" : number(step.score, 3)), sign("="), term(value, number(step.value, 3), step.value !== 0), sign("+"),
      term(bonus, step.bonus === null ? "∞" : number(step.bonus, 3), true), sign(";"),
      term(`Q(${move})`, number(step.new_q, 3), true), sign("←"), term("Q", step.n ? number(step.q, 3) : "–"), sign("+ ("), term("G, carried back", number(step.g, 3), step.g !== 0), sign("− Q) /"),
      term("N", number(step.new_n)));
  }

  // ---- the page

  const move = make("button", { type: "button", "data-do": "move", onclick: () => model.send({ do: "move" }) }, "Play the move");
  let seen = 0;
  const update = () => {
    const now = tree();
    const settings = model.get("settings");
    if (document.activeElement !== line) line.value = settings.moves;
    if (!now) {
      body.replaceChildren();
      readout.textContent = model.get("over") ? "The episode is over: press Reset for the start." : "";
      equation.replaceChildren(make("span", { class: "soft" }, "Nothing to search."));
      redraw();
      return;
    }
    if (settings.steps < seen) follow = true;
    seen = settings.steps;
    if (follow || chosen >= now.parent.length) chosen = 0;
    const rows = names().map((name, a) => ({ name, a })).filter(({ a }) => now.legal[chosen][a]).sort((x, y) => now.visits[chosen][y.a] - now.visits[chosen][x.a] || x.a - y.a);
    const show = (x, digits = 3) => (x === null ? "–" : number(x, digits));
    const top = best(chosen);
    table.querySelector("caption").textContent = now.ends[chosen] ? "The game is over in this node." : `${chosen === 0 ? "The root" : `Node ${chosen}`}: the framed edge is next`;
    body.replaceChildren(...rows.map(({ name, a }) => make("tr", { class: `${now.exact[chosen][a] !== null && now.exact[chosen][a] > top - 1e-9 ? "best " : ""}${now.next[chosen] === a ? "next" : ""}`, "data-edge": name },
      make("td", {}, name), make("td", {}, number(now.visits[chosen][a])), make("td", {}, show(now.q[chosen][a], 2)), make("td", { class: "truth" }, show(now.exact[chosen][a], 2)), make("td", {}, model.get("priors") ? show(now.prior[chosen][a], 2) : "–"),
      make("td", {}, now.bonus[chosen][a] === null ? "∞" : number(now.bonus[chosen][a], 2)), make("td", {}, now.score[chosen][a] === null ? (now.bonus[chosen][a] === null ? "∞" : "–") : number(now.score[chosen][a], 2)))));
    const { steps, value, exact } = model.get("curve");
    curve.set([steps, value, value.map(() => exact)]);
    const named = now.chosen >= 0 ? names()[now.chosen] : "";
    const rootBest = now.chosen >= 0 && now.exact[0][now.chosen] !== null ? (now.exact[0][now.chosen] > best(0) - 1e-9 ? ", which is optimal" : ", which is a mistake") : "";
    readout.textContent = settings.steps === 0 ? "A bare root. Press One simulation." : `${number(settings.steps)} of ${number(settings.budget)} simulations, ${number(now.parent.length)} nodes. The move found: ${named}${rootBest}. Root ${number(now.root_value, 3)}${exact === null ? "" : `, exactly ${number(exact, 3)}`}.`;
    showEquation();
    redraw();
  };
  model.on("change", update);

  el.append(make("div", { class: "page" },
    make("section", { class: "stage", "aria-label": "The demo" },
      problemLine(model),
      make("div", { class: "canvas card" }, canvas),
      make("div", { class: "row" }, make("div", { class: "grow" }, readout), move),
      equation,
      transport(model, ["speed", "steps"], { step: "One simulation", episode: "All" })),
    make("section", { class: "panel", "aria-label": "Settings" },
      make("div", { class: "card sliders" },
        make("div", { class: "row" }, choice(model, "world"), choice(model, "selection")), make("div", { class: "row" }, choice(model, "leaves"), choice(model, "noise")),
        ...["explore", "budget"].map((name) => slider(model, name)), make("div", { class: "pair" }, slider(model, "seed"), make("label", { class: "select" }, "Moves so far", line))),
      make("div", { class: "card stage grow" }, make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Edges of the chosen node" }, table)),
      make("div", { class: "card stage low" }, curve.key, curve.box),
      make("div", { class: "row" }, codeButton(model, "Python: this tree", "The command line searches by UCT alone, in games; use the Python above."), linkButton()))));
  update();
}
