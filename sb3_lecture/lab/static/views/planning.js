// Planning: a world swept over or imagined; what the last sweep or step has changed is framed.

import { chart } from "../chart.js";
import { SIGNS, cellUnder, drawGrid, explorer, frame, layout, moveCursor } from "../grid.js";
import { choice, codeButton, drawing, linkButton, make, number, problemLine, regretFigure, slider, transport } from "../parts.js";

const SHOWS = [
  ["values", "Values", "What is planned so far; cells that the last sweep or step has changed are framed"],
  ["error", "Error", "Values less the exact optimum"],
  ["optimum", "Optimum v*", "The exact optimum"],
];
const SWEEPS = { value_iteration: true, policy_iteration: true };

export function render({ model, el }) {
  let show = "values";
  let cursor = null;
  let hovering = false;
  let place = { left: 0, top: 0, cell: 1 };
  const { canvas, redraw } = drawing("The world with its values. Arrow keys move from cell to cell.", draw);
  canvas.tabIndex = 0;
  const readout = make("div", { class: "readout", role: "status", "aria-live": "polite" });
  const equation = make("div", { class: "equation card", role: "group", "aria-label": "The backup of one state, with its numbers" });
  const curve = chart("Exact error and regret over the steps", [
    { label: "largest error", color: "--accent" }, { label: "regret of the policy", color: "--second", dash: [6, 4] },
  ], { min: 0, atLeast: 5 });
  const queue = make("ol", { class: "queue" });
  const queueTitle = make("div", { class: "soft" });
  const queueCard = make("div", { class: "card queue-card", tabIndex: 0, role: "region", "aria-label": "What the model knows, and what waits" }, queueTitle, queue);

  const cells = () => model.get("grid").cells;
  const rows = () => model.get("grid").rows;
  const swept = () => SWEEPS[model.get("settings").learner];
  const stateAt = (cell) => (cell ? cells().findIndex(([r, c]) => r === cell[0] && c === cell[1]) : -1);
  const ends = (s) => "GPTC".includes(rows()[cells()[s][0]][cells()[s][1]]);

  function draw(context, width, height) {
    if (!rows()) return;
    place = layout(rows(), width, height);
    const values = model.get("values");
    const best = model.get("optimal_v");
    const lit = model.get("lit");
    const policy = model.get("policy");
    const q = model.get("q");
    const shown = (s) => (show === "optimum" ? best[s] : show === "error" ? (best[s] === null ? null : values[s] - best[s]) : values[s]);
    const largest = Math.max(1e-12, ...values.map((_, s) => Math.abs((show === "error" ? values[s] - best[s] : best[s]) ?? 0)));
    drawGrid(context, place, rows(), cells(), (s) => {
      const flat = Math.max(...q[s]) === Math.min(...q[s]);
      return { value: shown(s), lit: show === "values" && lit[s], arrows: show === "values" && !(flat && !swept()) ? [policy[s]] : [] };
    }, { largest, height });
    if (!swept() && model.get("state") !== undefined) explorer(context, place, cells()[model.get("state")]);
    if (cursor && (hovering || document.activeElement === canvas)) frame(context, place, cursor, "--accent");
  }

  canvas.addEventListener("pointermove", (event) => { hovering = true; cursor = cellUnder(event, canvas, rows(), place); tell(); });
  canvas.addEventListener("pointerleave", () => { hovering = false; tell(); });
  canvas.addEventListener("keydown", (event) => {
    const next = moveCursor(cursor, event.key, rows());
    if (!next || event.ctrlKey || event.metaKey) return;
    cursor = next;
    event.preventDefault();
    tell();
  });

  // ---- the backup with its numbers

  const term = (symbol, value, lit = false) => make("span", { class: `term number${lit ? " lit" : ""}`, "data-term": symbol }, make("b", {}, symbol), make("span", {}, value));
  const sign = (text) => make("span", { class: "sign" }, text);
  const mostChanged = () => {
    const [values, old, lit] = [model.get("values"), model.get("old"), model.get("lit")];
    let found = -1;
    values.forEach((v, s) => { if (lit[s] && !ends(s) && (found < 0 || Math.abs(v - old[s]) > Math.abs(values[found] - old[found]))) found = s; });
    return found;
  };
  function showEquation() {
    const active = hovering || document.activeElement === canvas;
    let s = active ? stateAt(cursor) : -1;
    if (s < 0 || ends(s)) s = mostChanged();
    const phase = model.get("phase");
    const t = model.get("transition");
    if (phase === "imagine" && t) {
      const pair = `Q(${t.state},${SIGNS[t.action]})`;
      equation.replaceChildren(sign("real:"), term("r", number(t.reward, 2), t.reward !== 0), sign("+"), term("γ", t.terminated ? "0 (end)" : number(t.discount, 2)), term("max Q(s′,·)", number(t.next_value, 3), t.next_value !== 0),
        sign("−"), term(pair, number(t.q, 3)), sign("="), term("δ", number(t.delta, 3), Math.abs(t.delta) > 5e-4), sign("; imagined:"), term("pairs changed", number(model.get("changed")), model.get("changed") > 0),
        term(`${pair} now`, number(t.new_q, 3)));
      return;
    }
    if (!phase || phase === "imagine" || s < 0) {
      equation.replaceChildren(make("span", { class: "soft" }, phase && phase !== "imagine" ? "The last sweep has changed nothing." : swept() ? "v(s) ← max over actions of Σ p (r + γ v(s′)): press One step for a sweep." : "A real step, then imagined ones in the learned model: press One step."));
      return;
    }
    const q = model.get("q")[s];
    const [old, now, policy, before] = [model.get("old")[s], model.get("values")[s], model.get("policy")[s], model.get("old_policy")[s]];
    const parts = q.map((x, a) => term(`r + γ v ${SIGNS[a]}`, number(x, 3), phase === "evaluate" ? a === policy : phase === "improve" ? a === policy : Math.abs(x - now) < 1e-6 * Math.max(1, Math.abs(now))));
    if (phase === "improve") equation.replaceChildren(term(`π(${s})`, `${SIGNS[before]} → ${SIGNS[policy]}`, before !== policy), sign("← argmax"), ...parts);
    else equation.replaceChildren(term(`v(${s})`, number(now, 3), now !== old), sign(phase === "evaluate" ? "← under π:" : "← max"), ...parts, sign(";"), term("before", number(old, 3)));
  }

  function tell() {
    redraw();
    showEquation();
    const s = stateAt(cursor);
    if (s < 0 || !(hovering || document.activeElement === canvas)) { readout.textContent = summary(); return; }
    const best = model.get("optimal_v")[s];
    readout.textContent = ends(s) ? `State ${s}: the end.` : `State ${s}: value ${number(model.get("values")[s], 4)}, exactly ${number(best, 4)}; policy ${SIGNS[model.get("policy")[s]]}`;
  }

  const PHASES = { sweep: "A sweep of v ← max", evaluate: "A sweep of evaluation, v ← v under π", improve: "An improvement of π" };
  function summary() {
    const steps = model.get("settings").steps;
    const phase = model.get("phase");
    if (!steps) return "Nothing is planned yet. Values are 0.";
    if (!swept()) return `${number(steps)} real steps, ${number(model.get("episodes"))} episodes. The last one and what was imagined after it have changed ${number(model.get("changed"))} pairs.`;
    const done = model.get("converged") ? (model.get("improvements") ? " The policy is stable: this is the optimum." : " Nothing changes any more: this is the optimum.") : "";
    return `${PHASES[phase]}, the ${number(steps)}${["th", "st", "nd", "rd"][steps % 10 < 4 && Math.floor(steps / 10) % 10 !== 1 ? steps % 10 : 0]} step; ${model.get("improvements") ? `${model.get("improvements")} improvements; ` : ""}largest error ${number(model.get("error"), 5)}.${done}`;
  }

  // ---- the page

  const showButtons = SHOWS.map(([name, title, help]) => make("button", { type: "button", title: help, "data-show": name, "aria-pressed": String(name === show), onclick: () => {
    show = name;
    showButtons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.show === show)));
    redraw();
  } }, title));
  const bar = transport(model);
  const learned = ["imagined", "alpha", "epsilon", "seed"].map((name) => [name, slider(model, name)]);
  const update = () => {
    if (!model.get("grid")) return;
    const method = model.get("settings").learner;
    for (const [name, element] of learned) {
      const off = swept() || (name === "alpha" && method !== "dyna_q");
      element.hidden = swept();
      element.style.opacity = off ? "0.45" : "1";
      element.querySelector("input").disabled = off;
    }
    queueCard.hidden = swept();
    bar.querySelector("[data-do=episode]").textContent = method === "policy_iteration" ? "Next policy" : swept() ? "To the end" : "One episode";
    bar.querySelector("[data-do=step]").textContent = swept() ? "One sweep" : "One step";
    const { steps, error, regret } = model.get("curve");
    curve.set([steps, error.length ? error : steps.map(() => null), regret]);
    const waiting = model.get("queue");
    const sweeping = method === "prioritized_sweeping";
    queueTitle.textContent = sweeping ? `${number(model.get("waiting"))} pairs wait, the most urgent first` : method === "dyna_q" ? `The model knows ${number((model.get("known") ?? []).flat().filter(Boolean).length)} of ${number(model.get("q").length * 4)} pairs` : "";
    queue.replaceChildren(...waiting.map(({ state, action, urgency }) => make("li", {}, `Q(${state}, ${SIGNS[action]}) would change by ${number(urgency, 3)}`)));
    tell();
  };
  model.on("change", update);

  // the regret of planning stands beside the values, that of the other pages in learned
  const regret = { get: (name) => (name === "learned" ? { regret: model.get("regret") } : model.get(name)), on: (name, f) => model.on(name, f) };
  el.append(make("div", { class: "page" },
    make("section", { class: "stage", "aria-label": "The demo" },
      problemLine(model),
      make("div", { class: "canvas card" }, canvas),
      make("div", { class: "row" }, make("div", { class: "tools", role: "group", "aria-label": "Show" }, ...showButtons)),
      readout,
      equation,
      bar),
    make("section", { class: "panel", "aria-label": "Settings" },
      make("div", { class: "card sliders" },
        make("div", { class: "row" }, choice(model, "world"), choice(model, "learner")),
        ...["gamma", "slip"].map((name) => slider(model, name)), ...learned.map(([, element]) => element)),
      make("div", { class: "card stage grow" }, regretFigure(regret), curve.key, curve.box),
      queueCard,
      make("div", { class: "row" }, codeButton(model, "Python: these values, to the last bit"), linkButton()))));
  update();
}
