// Boards: play by click or key; on every legal move what the search thinks and what it is worth exactly.

import { chart } from "../chart.js";
import { choice, codeButton, css, drawing, inkOn, linkButton, make, mix, number, problemLine, slider, transport } from "../parts.js";

const SHOWS = [
  ["exact", "Exact value", "Win, draw or loss of every move when both sides play their best, and the moves until the end"],
  ["visits", "Visits", "The share of the simulations that went through each move"],
  ["value", "Value", "The mean result of the simulations through each move, for the side to move"],
  ["prior", "Prior", "What AlphaZero's network thinks before it searches"],
  ["none", "Nothing", "The board alone"],
];
const WORDS = { 1: "win", 0: "draw", "-1": "loss" };
const SHORT = { 1: "+1", 0: "0", "-1": "−1" };

export function render({ model, el }) {
  let show = "exact";
  let cursor = null; // [row, column] of mouse or keyboard
  let hovering = false;
  const { canvas, redraw } = drawing("The board. Arrow keys move, Enter plays.", draw);
  canvas.tabIndex = 0;
  const readout = make("div", { class: "readout", role: "status", "aria-live": "polite" });
  const verdict = make("div", { "data-figure": "verdict", role: "status", "aria-live": "polite" });
  const course = chart("Value of each position for the first player", [
    { label: "exact", color: "--second" }, { label: "300 rollouts", color: "--accent", dash: [6, 4] },
  ], { xLabel: "moves played", range: [-1.1, 1.1], atLeast: 8 });
  const body = make("tbody");
  const table = make("table", { class: "moves" }, make("thead", {}, make("tr", {},
    ...["Move", "Exact", "N", "Q", "P"].map((title) => make("th", { scope: "col" }, title)))), body);
  const line = make("input", { type: "text", "data-control": "moves", "aria-label": "Moves so far", spellcheck: false, autocomplete: "off" });
  line.addEventListener("change", () => { model.set("moves", line.value); model.save_changes(); });
  const pass = make("button", { type: "button", "data-do": "pass", onclick: () => play("pass") }, "Pass");

  const board = () => model.get("board");
  const options = () => model.get("options") ?? [];
  const heaps = () => board().drawn === "heaps";
  const play = (text) => {
    model.set("moves", `${board().moves} ${text}`.trim());
    model.save_changes();
  };
  const moveAt = (cell) => {
    if (!cell) return undefined;
    if (board().drawn === "columns") return options().find(({ place }) => place && place[1] === cell[1]);
    return options().find(({ place }) => place && place[0] === cell[0] && place[1] === cell[1]);
  };

  // ---- drawing

  let place = { left: 0, top: 0, cell: 1, rows: 1, columns: 1 };

  function draw(context, width, height) {
    const { cells, drawn, last } = board();
    const [rows, columns] = heaps() ? [cells[0].length, Math.max(7, ...cells[0])] : [cells.length, cells[0].length];
    const lettered = drawn !== "heaps" ? 22 : 0;
    const cell = Math.floor(Math.min((width - 12 - lettered) / columns, (height - 8 - lettered) / rows, Math.max(150, height * 0.3)));
    const [left, top] = [Math.floor((width - cell * columns + lettered) / 2), Math.floor((height - cell * rows - lettered) / 2)];
    place = { left, top, cell, rows, columns };
    const family = getComputedStyle(document.body).fontFamily;
    const font = (size) => { context.font = `${Math.max(12, Math.min(Math.max(20, height / 34), size))}px ${family}`; };
    context.textAlign = "center";
    context.textBaseline = "middle";
    const ground = { discs: "#2f7d4f", stones: "#d9a95c" }[drawn] ?? css("--zero");
    context.fillStyle = ground;
    if (!heaps()) context.fillRect(left, top, cell * columns, cell * rows);
    const wood = drawn === "stones";
    context.strokeStyle = wood ? "#6b4a17" : drawn === "discs" ? "#1d5a36" : css("--grid");
    context.lineWidth = 1;
    const inset = wood ? cell / 2 : 0;
    if (!heaps()) {
      for (let r = 0; r <= rows - (wood ? 1 : 0); r++) stroke(context, left + inset, top + inset + r * cell, left + columns * cell - inset, top + inset + r * cell);
      for (let c = 0; c <= columns - (wood ? 1 : 0); c++) stroke(context, left + inset + c * cell, top + inset, left + inset + c * cell, top + rows * cell - inset);
    }
    names(context, drawn, font, rows, columns);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < (heaps() ? cells[0][r] : columns); c++) {
        const [x, y] = [left + (c + 0.5) * cell, top + (r + 0.5) * cell];
        const fresh = !heaps() && last.length && last[0] && last[0][0] === r && last[0][1] === c;
        piece(context, drawn, heaps() ? 1 : cells[r][c], x, y, cell, fresh);
      }
    }
    if (!board().over) for (const option of options()) if (option.place) mark(context, option, font);
    if (cursor && (hovering || document.activeElement === canvas)) {
      context.strokeStyle = css("--accent");
      context.lineWidth = 3;
      context.strokeRect(left + cursor[1] * cell + 2, top + cursor[0] * cell + 2, cell - 4, cell - 4);
    }
  }

  function stroke(context, x1, y1, x2, y2) {
    context.beginPath();
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
    context.stroke();
  }

  function names(context, drawn, font, rows, columns) {
    const { left, top, cell } = place;
    context.fillStyle = css("--soft");
    font(cell * 0.12);
    const letters = drawn === "stones" ? "ABCDEFGHJ" : "abcdefgh";
    for (let c = 0; c < columns && drawn !== "heaps"; c++) context.fillText(drawn === "columns" ? String(c + 1) : letters[c], left + (c + 0.5) * cell, top + rows * cell + 12);
    for (let r = 0; r < rows && drawn !== "columns"; r++) context.fillText(drawn === "stones" ? String(rows - r) : String(r + 1), left - 12, top + (r + 0.5) * cell);
  }

  function disc(context, x, y, radius, fill, edge) {
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fillStyle = fill;
    context.fill();
    context.strokeStyle = edge;
    context.lineWidth = 1.5;
    context.stroke();
  }

  function piece(context, drawn, owner, x, y, cell, fresh) {
    const radius = cell * 0.4;
    if (drawn === "columns") disc(context, x, y, radius, owner === 0 ? css("--card") : css(owner > 0 ? "--plus" : "--minus"), css("--grid"));
    else if (drawn === "heaps") disc(context, x, y, radius, css("--wall"), css("--ink"));
    else if (owner && drawn !== "marks") disc(context, x, y, cell * 0.45, owner > 0 ? "#16181c" : "#f7f7f4", owner > 0 ? "#000000" : "#8a8a80");
    if (owner && (drawn === "marks" || drawn === "columns")) {
      const size = drawn === "marks" ? cell * 0.27 : cell * 0.13; // the sign tells the sides apart without colour, too
      context.strokeStyle = drawn === "marks" ? css(owner > 0 ? "--plus" : "--minus") : inkOn(css(owner > 0 ? "--plus" : "--minus"));
      context.lineWidth = Math.max(2, drawn === "marks" ? cell * 0.07 : cell * 0.035);
      context.lineCap = "round";
      if (owner > 0) {
        stroke(context, x - size, y - size, x + size, y + size);
        stroke(context, x - size, y + size, x + size, y - size);
      } else {
        context.beginPath();
        context.arc(x, y, size, 0, 7);
        context.stroke();
      }
    }
    if (fresh) {
      context.strokeStyle = css("--mark");
      context.lineWidth = 3;
      context.beginPath();
      context.arc(x, y, drawn === "marks" ? cell * 0.44 : cell * 0.47, 0, 7);
      context.stroke();
    }
  }

  function about(option) {
    const total = model.get("search")?.n ?? 1;
    if (show === "exact") return option.value === null ? null : { share: option.value, text: `${WORDS[option.value]}${option.plies !== null && option.value ? ` in ${option.plies}` : ""}`, short: SHORT[option.value] };
    if (show === "visits") return { share: option.visits / total, text: `${number((100 * option.visits) / total, 1)} %`, short: String(Math.round((100 * option.visits) / total)) };
    if (show === "value") return option.q === null ? null : { share: option.q, text: number(option.q, 2), short: number(option.q, 1) };
    if (show === "prior") return option.prior === null ? null : { share: option.prior, text: `${number(100 * option.prior, 1)} %`, short: String(Math.round(100 * option.prior)) };
    return null;
  }

  function mark(context, option, font) {
    const { left, top, cell } = place;
    const [x, y] = [left + (option.place[1] + 0.5) * cell, top + (option.place[0] + 0.5) * cell];
    const said = about(option);
    if (!said) {
      if (show !== "none" && board().drawn === "discs") disc(context, x, y, cell * 0.08, "#bfe3cb", "#1d5a36");
      return;
    }
    const fill = mix(css("--zero"), css(said.share < 0 ? "--minus" : "--plus"), Math.min(1, Math.abs(said.share)));
    const text = cell >= 76 ? said.text : cell >= 50 ? said.text.replace(" in ", " ") : said.short;
    font(cell * 0.18);
    const [w, h] = [Math.min(cell - 6, Math.max(context.measureText(text).width + 14, cell * 0.5)), Math.min(cell * 0.7, Math.max(18, cell * 0.34))];
    context.beginPath();
    context.roundRect(x - w / 2, y - h / 2, w, h, 5);
    context.fillStyle = fill;
    context.fill();
    context.strokeStyle = option.best && show === "exact" ? css("--ink") : css("--grid");
    context.lineWidth = option.best && show === "exact" ? 2.5 : 1;
    context.stroke();
    context.fillStyle = inkOn(fill);
    if (cell >= 28) context.fillText(text, x, y);
  }

  // ---- mouse and keyboard

  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const [c, r] = [Math.floor((event.clientX - box.left - place.left) / place.cell), Math.floor((event.clientY - box.top - place.top) / place.cell)];
    return r >= 0 && c >= 0 && r < place.rows && c < place.columns ? [r, c] : null;
  };
  const tryCell = () => {
    const option = moveAt(cursor);
    if (option) play(option.text);
    else tell();
  };
  canvas.addEventListener("click", (event) => { cursor = cellAt(event); tryCell(); });
  canvas.addEventListener("pointermove", (event) => { hovering = true; cursor = cellAt(event); tell(); });
  canvas.addEventListener("pointerleave", () => { hovering = false; redraw(); });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowDown: [1, 0], ArrowLeft: [0, -1] };
    if (event.ctrlKey || event.metaKey) return;
    cursor ??= [0, 0];
    if (steps[event.key]) cursor = [Math.max(0, Math.min(place.rows - 1, cursor[0] + steps[event.key][0])), Math.max(0, Math.min(place.columns - 1, cursor[1] + steps[event.key][1]))];
    else if (event.key === "Enter" || event.key === " ") tryCell();
    else return;
    event.preventDefault();
    tell();
  });

  const sentence = (option) => {
    const total = model.get("search")?.n ?? 0;
    const truth = option.value === null ? "exact value unknown" : `exactly a ${WORDS[option.value]}${option.plies !== null && option.value ? ` in ${option.plies}` : ""}`;
    return `${option.text}: ${truth}; ${option.visits} of ${total} simulations, mean result ${option.q === null ? "–" : number(option.q, 3)}${option.prior === null ? "" : `, prior ${number(option.prior, 3)}`}`;
  };
  function tell() {
    redraw();
    const option = moveAt(cursor);
    readout.textContent = option ? sentence(option) : "Click or Enter plays; point at a move for its numbers.";
    showEquation(option);
  }

  // ---- the rule of the search with its numbers

  const equation = make("div", { class: "equation card", role: "group", "aria-label": "The search's score of a move, with its numbers" });
  const term = (symbol, value, lit = false) => make("span", { class: `term number${lit ? " lit" : ""}`, "data-term": symbol }, make("b", {}, symbol), make("span", {}, value));
  const sign = (text) => make("span", { class: "sign" }, text);
  function showEquation(chosen) {
    const search = model.get("search");
    const most = options().reduce((a, b) => (a && a.visits >= b.visits ? a : b), null);
    const option = chosen ?? most;
    if (!search || !option) {
      equation.replaceChildren(term("The game is over", number(board().result, 0)));
      return;
    }
    const n = option.visits;
    const value = option.q ?? search.value;
    const bonus = search.trained ? option.prior * (Math.sqrt(search.n + 1) / (1 + n)) * (search.c + Math.log((search.n + 1 + search.base) / search.base))
      : n > 0 ? search.c * Math.sqrt(Math.log(search.n) / n) : null;
    equation.replaceChildren(
      term(`score(${option.text})`, bonus === null ? "∞" : number(value + bonus, 3)), sign("="), term(search.trained ? "Q" : "Q, mean result", number(value, 3), n > 0),
      sign("+"), ...(search.trained ? [term("P", number(option.prior, 3), true), sign("·"), term("√N / (1 + n) · c", `${number(Math.sqrt(search.n + 1) / (1 + n), 2)} · ${number(search.c, 2)}`)]
        : [term("c", number(search.c, 2)), sign("·"), term("√(ln N / n)", n > 0 ? `√(ln ${search.n} / ${n})` : "∞", true)]),
      sign("; exactly"), term(`−v(after ${option.text})`, option.value === null ? "unknown" : SHORT[option.value], option.value !== null));
    equation.title = search.trained ? "PUCT: Q is scaled to 0 … 1 by the least and largest value in the tree when the search compares" : "UCT: moves that were never tried come first";
  }

  // ---- the page

  const showButtons = SHOWS.map(([name, title, help]) => make("button", { type: "button", title: help, "data-show": name, "aria-pressed": String(name === show), onclick: () => {
    show = name;
    showButtons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.show === show)));
    redraw();
  } }, title));
  const undo = make("button", { type: "button", "data-do": "undo", onclick: () => model.send({ do: "undo" }) }, "Take back");

  const update = () => {
    const now = board();
    if (!now) return;
    if (verdict.textContent !== model.get("verdict")) verdict.textContent = model.get("verdict");
    if (now.lead !== undefined) verdict.textContent = `${model.get("verdict")} Black's area less White's and komi: ${number(now.lead, 1)}.`;
    if (document.activeElement !== line) line.value = model.get("settings").moves;
    pass.hidden = !now.pass;
    const { exact, searched } = model.get("course");
    course.set([exact.map((_, i) => i), exact, searched]);
    const total = model.get("search")?.n ?? 1;
    const ranked = [...options()].sort((a, b) => b.visits - a.visits || (a.text < b.text ? -1 : 1));
    body.replaceChildren(...ranked.map((option) => make("tr", option.best ? { class: "best" } : {},
      make("td", {}, make("button", { type: "button", "data-move": option.text, title: sentence(option), onclick: () => play(option.text) }, option.text)),
      make("td", { class: "truth" }, option.value === null ? "?" : `${WORDS[option.value]}${option.plies !== null && option.value ? ` in ${option.plies}` : ""}`),
      make("td", { title: `${number((100 * option.visits) / total, 1)} %` }, number(option.visits)), make("td", {}, option.q === null ? "–" : number(option.q, 2)),
      make("td", {}, option.prior === null ? "–" : number(option.prior, 2)))));
    tell();
  };
  model.on("change", update);

  el.append(make("div", { class: "page" },
    make("section", { class: "stage", "aria-label": "The demo" },
      problemLine(model),
      verdict,
      make("div", { class: "canvas card" }, canvas),
      make("div", { class: "row" }, make("div", { class: "tools", role: "group", "aria-label": "Show on each move" }, ...showButtons), make("span", { class: "grow" }), pass, undo),
      readout,
      equation,
      transport(model, ["speed"], { reset: "New game", step: "Best move", episode: "To the end" })),
    make("section", { class: "panel", "aria-label": "Settings" },
      make("div", { class: "card sliders" },
        make("div", { class: "row" }, choice(model, "game"), choice(model, "side")), make("div", { class: "row" }, choice(model, "opponent"), choice(model, "thinker")),
        slider(model, "simulations"), slider(model, "seed"), make("label", { class: "select" }, "Moves so far", line)),
      make("div", { class: "card stage grow" }, make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "All moves with their numbers" }, table)),
      make("div", { class: "card stage low" }, course.key, course.box),
      make("div", { class: "row" }, codeButton(model, "Python: this search and these values", "The command line has no game for two people; use the Python above."), linkButton()))));
  update();
}
