// Gridworld editor: paint, drag, and see values, policy, visits, traces and the exact optimum.

import { chart } from "../chart.js";
import { arrow, choice, codeButton, copied, css, dialog, drawing, equation, inkOn, linkButton, make, mix, number, problemLine, regretFigure, slider, transport } from "../parts.js";

const SIGNS = ["↑", "→", "↓", "←"];
const MOVES = [[0, -1], [1, 0], [0, 1], [-1, 0]];
const TOOLS = [
  ["#", "Wall"], [".", "Free"], ["S", "Start"], ["G", "Goal +1"], ["P", "Pit −1"], ["T", "End 0"], ["number", "Reward"],
];
const SHOWS = [
  ["values", "Values", "The best of each cell's four values, and where it points"],
  ["q", "All Q", "Four values a cell, one for each move"],
  ["visits", "Visits", "How often each cell was acted in"],
  ["traces", "Traces", "The eligibility of each move, for Sarsa(λ) and Q(λ)"],
  ["optimum", "Optimum v*", "The exact optimum"],
];

export function render({ model, el }) {
  let tool = "#";
  let show = "values";
  let mark = true;
  let cursor = null; // [row, column] of mouse or keyboard
  let painting = false;
  const rewardBox = make("input", { type: "number", value: "-5", step: "1", min: "-100", max: "100", "aria-label": "Reward to paint" });
  const { canvas, redraw } = drawing("The map. Arrow keys move, Enter paints, the keys # . S G P T paint at once.", draw);
  canvas.tabIndex = 0;
  const readout = make("div", { class: "readout", role: "status", "aria-live": "polite" });
  const curve = chart("Exact regret during training", [{ label: "exact regret of the greedy policy", color: "--accent" }], { log: true, min: 0 });

  // ---- the map

  const rows = () => model.get("grid").rows;
  const text = (symbols) => {
    const wide = symbols.some((row) => row.some((x) => x.length > 1));
    return symbols.map((row) => row.join(wide ? " " : "")).join("\n");
  };
  const setMap = (symbols) => {
    model.state.grid = { ...model.state.grid, rows: symbols };
    model.set("map", text(symbols));
    model.save_changes();
  };
  const paint = (cell, symbol) => {
    const old = rows();
    if (!cell || !old[cell[0]] || old[cell[0]][cell[1]] === undefined || old[cell[0]][cell[1]] === symbol) return;
    const symbols = old.map((row) => [...row]);
    if (symbol === "S") symbols.forEach((row) => row.forEach((x, c) => { if (x === "S") row[c] = "."; }));
    symbols[cell[0]][cell[1]] = symbol;
    setMap(symbols);
  };
  const brush = () => (tool === "number" ? String(Math.max(-100, Math.min(100, Number(rewardBox.value) || 0))) : tool);
  const resize = (dr, dc) => {
    const symbols = rows().map((row) => [...row]);
    const largest = model.hello.info.largest;
    if (dr > 0 && symbols.length < largest) symbols.push(symbols[0].map(() => "."));
    if (dr < 0 && symbols.length > 1) symbols.pop();
    if (dc > 0 && symbols[0].length < largest) symbols.forEach((row) => row.push("."));
    if (dc < 0 && symbols[0].length > 1) symbols.forEach((row) => row.pop());
    setMap(symbols);
  };

  // ---- drawing

  let place = { left: 0, top: 0, cell: 1 };

  function colour(value, largest) {
    return mix(css("--zero"), css(value < 0 ? "--minus" : "--plus"), largest > 0 ? Math.min(1, Math.abs(value) / largest) ** 0.7 : 0);
  }

  function draw(context, width, height) {
    const symbols = rows();
    if (!symbols.length) return;
    const [h, w] = [symbols.length, symbols[0].length];
    const cell = Math.floor(Math.min((width - 4) / w, (height - 4) / h, Math.max(130, height * 0.3)));
    const [left, top] = [Math.floor((width - cell * w) / 2), Math.floor((height - cell * h) / 2)];
    place = { left, top, cell };
    const learned = model.get("learned");
    const family = getComputedStyle(document.body).fontFamily;
    const font = (size) => { context.font = `${Math.max(12, Math.min(Math.max(20, height / 40), size))}px ${family}`; };
    context.textAlign = "center";
    context.textBaseline = "middle";
    const stateOf = new Map(model.get("grid").cells.map(([r, c], s) => [r * w + c, s]));
    const values = learned && (show === "optimum" ? learned.optimal_v : show === "visits" ? learned.visits.map((v) => v.reduce((a, b) => a + b, 0))
      : learned.q.map((q) => Math.max(...q)));
    const fine = values && values.length === stateOf.size;
    const shade = fine && values.map((v) => (show === "visits" ? Math.log1p(v) : v ?? 0));
    const largest = fine ? Math.max(1e-12, ...(show === "q" ? learned.q.flat() : show === "traces" && learned.traces ? learned.traces.flat() : shade).map(Math.abs)) : 1;
    for (let r = 0; r < h; r++) {
      for (let c = 0; c < w; c++) {
        const [x, y, symbol] = [left + c * cell, top + r * cell, symbols[r][c]];
        const s = stateOf.get(r * w + c);
        const ends = "GPTC".includes(symbol);
        if (symbol === "#") {
          context.fillStyle = css("--wall");
          context.fillRect(x, y, cell, cell);
          continue;
        }
        let fill = css("--zero");
        if (fine && s !== undefined && !ends) {
          if (show === "q" || show === "traces") quarters(context, x, y, cell, show === "q" ? learned.q[s] : learned.traces?.[s], largest, font);
          else fill = colour(shade[s], largest);
        }
        if (!(fine && !ends && (show === "q" || show === "traces"))) {
          context.fillStyle = fill;
          context.fillRect(x, y, cell, cell);
        }
        thing(context, x, y, cell, symbol, font);
        if (fine && s !== undefined && !ends) inside(context, x, y, cell, s, fill, values, learned, font);
      }
    }
    context.strokeStyle = css("--grid");
    context.lineWidth = 1;
    for (let r = 0; r <= h; r++) stroke(context, left, top + r * cell + 0.5, left + w * cell, top + r * cell + 0.5);
    for (let c = 0; c <= w; c++) stroke(context, left + c * cell + 0.5, top, left + c * cell + 0.5, top + h * cell);
    if (fine) explorer(context, learned, left, top, cell);
    if (cursor && (painting || document.activeElement === canvas || hovering)) {
      context.strokeStyle = css("--accent");
      context.lineWidth = 3;
      context.strokeRect(left + cursor[1] * cell + 1.5, top + cursor[0] * cell + 1.5, cell - 3, cell - 3);
    }
  }

  function stroke(context, x1, y1, x2, y2) {
    context.beginPath();
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
    context.stroke();
  }

  function quarters(context, x, y, cell, four, largest, font) {
    const [mx, my, half] = [x + cell / 2, y + cell / 2, cell / 2];
    const corners = [[x, y], [x + cell, y], [x + cell, y + cell], [x, y + cell]];
    for (let a = 0; a < 4; a++) {
      const value = four ? four[a] : 0;
      const fill = colour(value, largest);
      context.fillStyle = fill;
      context.beginPath();
      context.moveTo(mx, my);
      context.lineTo(...corners[a]);
      context.lineTo(...corners[(a + 1) % 4]);
      context.fill();
      context.strokeStyle = css("--grid");
      context.lineWidth = 1;
      stroke(context, mx, my, ...corners[a]);
      if (cell >= 84) {
        context.fillStyle = inkOn(fill);
        font(12);
        context.fillText(number(value, 2), mx + MOVES[a][0] * half * 0.55, my + MOVES[a][1] * half * 0.72);
      }
    }
  }

  // the lecture's colours: a red explorer, black hells, a yellow circle as paradise
  function thing(context, x, y, cell, symbol, font) {
    const [mx, my] = [x + cell / 2, y + cell / 2];
    font(cell * 0.16);
    if (symbol === "G" || symbol === "T") {
      context.fillStyle = symbol === "G" ? "#f5c518" : css("--card");
      context.strokeStyle = symbol === "G" ? "#6b5400" : css("--ink");
      context.lineWidth = 1.5;
      context.beginPath();
      context.arc(mx, my, cell * 0.33, 0, 7);
      context.fill();
      context.stroke();
      context.fillStyle = symbol === "G" ? "#3a2d00" : css("--ink");
      if (cell >= 26) context.fillText(symbol === "G" ? "+1" : "end", mx, my);
    } else if (symbol === "P" || symbol === "C") {
      context.fillStyle = css("--pit");
      const inset = symbol === "P" ? cell * 0.17 : 1;
      context.fillRect(x + inset, y + inset, cell - 2 * inset, cell - 2 * inset);
      context.strokeStyle = css("--soft");
      context.strokeRect(x + inset, y + inset, cell - 2 * inset, cell - 2 * inset);
      context.fillStyle = "#ffffff";
      if (cell >= 30) context.fillText(symbol === "P" ? "−1" : "−100", mx, my);
    } else if (symbol !== "." && symbol !== "S" && cell >= 30) {
      const label = number(Number(symbol), 1);
      context.fillStyle = Number(symbol) < 0 ? css("--pit") : "#f5c518";
      const w = context.measureText(label).width + 8;
      context.fillRect(x + 2, y + 2, w, 17);
      context.fillStyle = Number(symbol) < 0 ? "#ffffff" : "#3a2d00";
      context.fillText(label, x + 2 + w / 2, y + 11);
    }
    if (symbol === "S" && cell >= 26) {
      context.fillStyle = css("--ink");
      font(12);
      context.textAlign = "left";
      context.fillText(cell >= 60 && show !== "q" && show !== "traces" ? "start" : "S", x + 4, y + cell - 9);
      context.textAlign = "center";
    }
  }

  function inside(context, x, y, cell, s, fill, values, learned, font) {
    if (show === "q" || show === "traces") return;
    const [mx, my] = [x + cell / 2, y + cell / 2];
    const ink = inkOn(fill);
    const numbers = cell >= 46;
    if (show !== "visits") {
      const row = learned.q[s];
      const flat = Math.max(...row) === Math.min(...row);
      const actions = show === "optimum" ? [0, 1, 2, 3].filter((a) => learned.good[s][a]) : flat ? [] : [learned.greedy[s]];
      const size = Math.max(8, cell * (numbers ? 0.3 : 0.55));
      for (const a of actions) {
        context.strokeStyle = ink;
        const shift = actions.length > 1 ? cell * 0.12 : 0;
        arrow(context, mx + MOVES[a][0] * shift, my - (numbers ? cell * 0.15 : 0) + MOVES[a][1] * shift, ...MOVES[a], actions.length > 1 ? size * 0.6 : size, cell >= 40 ? 2.2 : 1.5);
      }
      if (show === "values" && mark && !learned.good[s][learned.greedy[s]] && !flat && cell >= 16) {
        context.fillStyle = css("--mark");
        context.beginPath();
        context.moveTo(x + cell - 1, y + 1);
        context.lineTo(x + cell - 1, y + 1 + Math.min(16, cell * 0.35));
        context.lineTo(x + cell - 1 - Math.min(16, cell * 0.35), y + 1);
        context.fill();
      }
    }
    if (numbers) {
      context.fillStyle = ink;
      font(cell * 0.17);
      const value = values[s];
      context.fillText(show === "visits" ? number(value) : number(value, cell >= 60 ? 3 : 2), mx, show === "visits" ? my : my + cell * 0.22);
    }
  }

  function explorer(context, learned, left, top, cell) {
    const t = learned.transition;
    const cells = model.get("grid").cells;
    const at = cells[t && (t.terminated || t.truncated) ? t.next_state : learned.state];
    if (!at) return;
    if (t && cells[t.state]) {
      const [r1, c1] = cells[t.state];
      const [r2, c2] = cells[t.next_state];
      if (Math.abs(r1 - r2) + Math.abs(c1 - c2) === 1) {
        context.strokeStyle = "#d7301f";
        context.setLineDash([4, 4]);
        context.lineWidth = 2;
        stroke(context, left + (c1 + 0.5) * cell, top + (r1 + 0.5) * cell, left + (c2 + 0.5) * cell, top + (r2 + 0.5) * cell);
        context.setLineDash([]);
      }
    }
    const size = Math.max(7, cell * 0.24);
    const [x, y] = [left + at[1] * cell + cell * 0.08, top + at[0] * cell + cell * 0.08];
    context.fillStyle = "#d7301f";
    context.strokeStyle = "#ffffff";
    context.lineWidth = 2;
    context.fillRect(x, y, size, size);
    context.strokeRect(x, y, size, size);
  }

  // ---- mouse and keyboard

  let hovering = false;
  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const [c, r] = [Math.floor((event.clientX - box.left - place.left) / place.cell), Math.floor((event.clientY - box.top - place.top) / place.cell)];
    const symbols = rows();
    return symbols[r] && symbols[r][c] !== undefined && c >= 0 ? [r, c] : null;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    painting = true;
    canvas.setPointerCapture(event.pointerId);
    cursor = cellAt(event);
    paint(cursor, brush());
    tell();
  });
  canvas.addEventListener("pointermove", (event) => {
    hovering = true;
    cursor = cellAt(event);
    if (painting) paint(cursor, brush());
    tell();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (painting = false));
  canvas.addEventListener("pointerleave", () => { hovering = false; redraw(); });
  canvas.addEventListener("keydown", (event) => {
    const symbols = rows();
    if (!symbols.length || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowDown: [1, 0], ArrowLeft: [0, -1] };
    cursor ??= [0, 0];
    if (steps[event.key]) {
      cursor = [Math.max(0, Math.min(symbols.length - 1, cursor[0] + steps[event.key][0])), Math.max(0, Math.min(symbols[0].length - 1, cursor[1] + steps[event.key][1]))];
    } else if (event.key === "Enter" || event.key === " ") paint(cursor, brush());
    else if ("#.SGPT".includes(event.key.toUpperCase()) && event.key.length === 1) paint(cursor, event.key.toUpperCase());
    else return;
    event.preventDefault();
    tell();
  });

  function tell() {
    redraw();
    const symbols = rows();
    if (!cursor || !symbols[cursor[0]]) return;
    const symbol = symbols[cursor[0]][cursor[1]];
    const learned = model.get("learned");
    const s = model.get("grid").cells.findIndex(([r, c]) => r === cursor[0] && c === cursor[1]);
    let line = `Row ${cursor[0]}, column ${cursor[1]}: ${model.hello.info.symbols[symbol] ?? `reward ${number(Number(symbol), 1)} on arrival`}`;
    if (learned && s >= 0 && learned.q[s] && !"GPTC".includes(symbol)) {
      const list = (q) => q.map((x, a) => `${SIGNS[a]} ${number(x, 3)}`).join("  ");
      line += `  |  Q  ${list(learned.q[s])}  |  Q*  ${list(learned.optimal_q[s])}  |  visits ${number(learned.visits[s].reduce((a, b) => a + b, 0))}`;
    }
    readout.textContent = line;
    readout.title = line;
  }

  // ---- tools

  const toolButtons = TOOLS.map(([symbol, title]) => make("button", { type: "button", "data-tool": symbol, "aria-pressed": String(symbol === tool), onclick: () => {
    tool = symbol;
    toolButtons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.tool === tool)));
  } }, title));
  const showButtons = SHOWS.map(([name, title, help]) => make("button", { type: "button", title: help, "data-show": name, "aria-pressed": String(name === show), onclick: () => {
    show = name;
    showButtons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.show === show)));
    redraw();
  } }, title));
  const marks = make("button", { type: "button", "aria-pressed": "true", title: "A corner marks where the greedy move is not optimal", onclick: () => {
    mark = !mark;
    marks.setAttribute("aria-pressed", String(mark));
    redraw();
  } }, "Mark mistakes");
  const preset = make("select", { "data-control": "preset" }, make("option", { value: "" }, "your own"),
    ...model.hello.info.presets.map(({ name, title }) => make("option", { value: name }, title)));
  preset.addEventListener("change", () => {
    const chosen = model.hello.info.presets.find(({ name }) => name === preset.value);
    if (!chosen) return;
    model.set("map", chosen.map);
    model.set("step_reward", chosen.step_reward);
    model.save_changes();
  });

  // ---- the map as text

  const area = make("textarea", { "aria-label": "The map, one line a row", spellcheck: false });
  const apply = () => { model.set("map", area.value); model.save_changes(); mapText.close(); };
  const load = make("input", { type: "file", accept: ".txt,text/plain", hidden: true, "aria-label": "Load a map" });
  load.addEventListener("change", async () => { if (load.files[0]) area.value = (await load.files[0].text()).slice(0, 4000); load.value = ""; });
  const save = () => {
    const link = make("a", { href: URL.createObjectURL(new Blob([area.value])), download: "map.txt" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const mapText = dialog("The map as text",
    make("p", { class: "soft" }, "# wall, . free, S start, G goal +1, P pit −1, T end, C cliff; a number is the reward of arriving there (put spaces between the cells of such a map). --env-kwargs takes the same rows."),
    area, make("div", { class: "row" }, make("button", { type: "button", class: "main", "data-do": "apply-map", onclick: apply }, "Use this map"),
      make("button", { type: "button", onclick: (event) => copied(event.target, area.value) }, "Copy"),
      make("button", { type: "button", onclick: () => load.click() }, "Load a file"), make("button", { type: "button", onclick: save }, "Save as a file"), load));
  const mapButton = make("button", { type: "button", "data-do": "map-text", onclick: () => { area.value = model.get("settings").map; mapText.showModal(); } }, "Map as text");
  const size = (label, dr, dc, sign) => make("button", { type: "button", "aria-label": label, title: label, onclick: () => resize(dr, dc) }, sign);

  // ---- the page

  const lambda = slider(model, "lambda_");
  const update = () => {
    redraw();
    const settings = model.get("settings");
    const learned = model.get("learned");
    const found = model.hello.info.presets.find(({ map, step_reward }) => map === settings.map && step_reward === settings.step_reward);
    preset.value = found?.name ?? "";
    const traces = settings.learner.endsWith("lambda");
    lambda.style.opacity = traces ? "1" : "0.45";
    lambda.querySelector("input").disabled = !traces;
    if (learned) {
      const { steps, regret } = learned.curve;
      curve.set([steps.slice(1), regret.slice(1)]);
    }
    if (cursor && (hovering || document.activeElement === canvas)) tell();
    else readout.textContent = "Choose a tool and paint the map; point at a cell for its numbers.";
  };
  model.on("change", update);

  el.append(make("div", { class: "page" },
    make("section", { class: "stage", "aria-label": "The demo" },
      make("div", { class: "row" }, make("div", { class: "tools", role: "group", "aria-label": "Paint" }, ...toolButtons, rewardBox),
        make("span", { class: "grow" }), make("div", { class: "tools", role: "group", "aria-label": "Size" }, size("One row more", 1, 0, "+ row"), size("One row less", -1, 0, "− row"), size("One column more", 0, 1, "+ column"), size("One column less", 0, -1, "− column"))),
      problemLine(model),
      make("div", { class: "canvas card" }, canvas),
      make("div", { class: "row" }, make("div", { class: "tools", role: "group", "aria-label": "Show" }, ...showButtons), marks),
      readout,
      equation(model, { state: (s) => s, action: (a) => SIGNS[a] }),
      transport(model)),
    make("section", { class: "panel", "aria-label": "Settings" },
      make("div", { class: "card sliders" },
        make("div", { class: "row" }, make("label", { class: "select" }, "World", preset), choice(model, "learner")),
        ...["alpha", "gamma", "epsilon"].map((name) => slider(model, name)), lambda,
        ...["slip", "initial_value", "step_reward", "seed"].map((name) => slider(model, name))),
      make("div", { class: "card stage grow" }, regretFigure(model, "Exact regret, and its course over the steps"), curve.box),
      make("div", { class: "row" }, mapButton, codeButton(model), linkButton()))));
  update();
}
