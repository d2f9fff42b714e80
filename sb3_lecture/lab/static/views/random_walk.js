// The random walk: guesses of three methods beside the exact values, and their errors over the episodes.

import { chart } from "../chart.js";
import { choice, codeButton, css, drawing, linkButton, make, number, problemLine, slider, transport } from "../parts.js";

const COLOURS = { td: "--accent", td_lambda: "--mark", mc: "--soft" };
const DASHES = { td: [], td_lambda: [3, 3], mc: [9, 4] };

export function render({ model, el }) {
  const { canvas, redraw } = drawing("The value of each cell: exact, and as each method guesses", draw);
  const readout = make("div", { class: "readout", role: "status", "aria-live": "polite" });
  const equation = make("div", { class: "equation card", role: "group", "aria-label": "The last update, with its numbers" });
  const methods = Object.entries(model.hello.controls.find((c) => c.name === "method").options);
  const errors = chart("Root mean square error over the cells", methods.map(([name, title]) => ({ label: title, color: COLOURS[name], dash: DASHES[name].length ? DASHES[name] : undefined })), { xLabel: "episode", min: 0, atLeast: 10 });

  function draw(context, width, height) {
    const truth = model.get("true");
    if (!truth) return;
    const family = getComputedStyle(document.body).fontFamily;
    const size = Math.max(12, height / 34);
    context.font = `${size}px ${family}`;
    const [left, right, top, bottom] = [48, width - 24, 34, height - 60];
    const n = truth.length;
    const x = (s) => left + ((s + 1) / (n + 1)) * (right - left);
    const y = (v) => bottom - Math.max(-0.1, Math.min(1.1, v)) * (bottom - top);
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const v of [0, 0.25, 0.5, 0.75, 1]) {
      context.strokeStyle = css("--line");
      context.lineWidth = 1;
      stroke(context, left, y(v), right, y(v));
      context.fillStyle = css("--soft");
      context.fillText(String(v), left - 8, y(v));
    }
    const last = model.get("last");
    const { method } = model.get("settings");
    context.textAlign = "center";
    for (let s = -1; s <= n; s++) {
      const end = s < 0 || s === n;
      const lit = last && s === last.state - 1;
      const side = Math.min(size * 1.1, (right - left) / (n + 1) / 2.6);
      context.fillStyle = lit ? css("--lit") : css("--zero");
      context.strokeStyle = css("--grid");
      context.fillRect(x(s) - side, bottom + 14, 2 * side, 1.5 * size);
      context.strokeRect(x(s) - side, bottom + 14, 2 * side, 1.5 * size);
      context.fillStyle = css(end ? "--ink" : "--soft");
      context.fillText(end ? (s < 0 ? "0" : "+1") : s + 1 === (n + 1) / 2 ? "S" : n > 12 && s % 2 ? "" : String(s + 1), x(s), bottom + 14 + size * 0.78);
    }
    if (last) { // where the last walk ended
      context.fillStyle = "#d7301f";
      context.strokeStyle = "#ffffff";
      context.lineWidth = 2;
      const at = x(last.right ? n : -1);
      context.fillRect(at - size * 0.45, bottom + 1, size * 0.9, size * 0.9);
      context.strokeRect(at - size * 0.45, bottom + 1, size * 0.9, size * 0.9);
    }
    curve(context, truth, x, y, "--second", [], 5, 0);
    for (const [name] of methods) curve(context, model.get("values")[name], x, y, COLOURS[name], DASHES[name], name === method ? 3.5 : 2, Math.max(3, size / 4));
    context.textAlign = "left";
    let at = left;
    for (const [label, colour] of [["exact", "--second"], ...methods.map(([name, title]) => [title, COLOURS[name]])]) {
      context.fillStyle = css(colour);
      context.fillText(`━ ${label}`, at, 14);
      at += context.measureText(`━ ${label}`).width + 18;
    }
  }

  function stroke(context, x1, y1, x2, y2) {
    context.beginPath();
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
    context.stroke();
  }

  function curve(context, values, x, y, colour, dash, width, dot) {
    context.strokeStyle = context.fillStyle = css(colour);
    context.lineWidth = width;
    context.setLineDash(dash);
    context.beginPath();
    values.forEach((v, s) => (s ? context.lineTo(x(s), y(v)) : context.moveTo(x(s), y(v))));
    context.stroke();
    context.setLineDash([]);
    for (const [s, v] of dot ? values.entries() : []) {
      context.beginPath();
      context.arc(x(s), y(v), dot, 0, 7);
      context.fill();
    }
    if (!dot) for (const [s, v] of values.entries()) context.fillRect(x(s) - 7, y(v) - 2.5, 14, 5);
  }

  const term = (symbol, value, lit = false) => make("span", { class: `term number${lit ? " lit" : ""}`, "data-term": symbol }, make("b", {}, symbol), make("span", {}, value));
  const sign = (text) => make("span", { class: "sign" }, text);
  function showEquation() {
    const last = model.get("last");
    const { method, lambda_ } = model.get("settings");
    if (!last) {
      equation.replaceChildren(make("span", { class: "soft" }, "No episode yet. TD learns at every step from the next guess; Monte Carlo waits for the end."));
      return;
    }
    const name = `V(${last.state})`;
    if (method === "mc") {
      equation.replaceChildren(term(name, number(last.new, 4), true), sign("←"), term("V", number(last.old, 4)), sign("+"), term("α", number(last.alpha, 2)), sign("["), term("G, the return", number(last.reward), last.reward !== 0), sign("−"), term("V", number(last.old, 4)), sign("]; so in every cell that was visited"));
    } else if (method === "td") {
      equation.replaceChildren(sign("at the end:"), term(name, number(last.new, 4), true), sign("←"), term("V", last.old === null ? "–" : number(last.old, 4)), sign("+"), term("α", number(last.alpha, 2)), sign("["), term("r", number(last.reward), last.reward !== 0), sign("+"), term("V(end)", "0"), sign("−"), term("V", last.old === null ? "–" : number(last.old, 4)), sign("]"));
    } else {
      equation.replaceChildren(sign("at the end:"), term(name, number(last.new, 4), true), sign("and all cells move by α δ e;"), term("λ", number(lambda_, 2)), term("r", number(last.reward), last.reward !== 0), sign("each trace e fades by λ a step"));
    }
  }

  const update = () => {
    const found = model.get("errors");
    if (!found) return;
    const { steps, runs } = model.get("settings");
    errors.set([found.td.map((_, i) => i), ...methods.map(([name]) => found[name])]);
    const now = methods.map(([name, title]) => `${title} ${number(found[name][found[name].length - 1], 3)}`).join(", ");
    readout.textContent = `${number(steps)} episodes. Root mean square error${runs > 1 ? `, mean of ${runs} walks` : ""}: ${now}.`;
    showEquation();
    redraw();
  };
  model.on("change", update);

  el.append(make("div", { class: "page" },
    make("section", { class: "stage", "aria-label": "The demo" },
      problemLine(model),
      make("div", { class: "canvas card" }, canvas),
      readout,
      equation,
      transport(model, ["speed", "steps"], { step: "One episode", episode: "Ten episodes" })),
    make("section", { class: "panel", "aria-label": "Settings" },
      make("div", { class: "card sliders" },
        make("div", { class: "row" }, choice(model, "method")),
        ...[["n", "initial_value"], ["alpha", "lambda_"], ["alpha_mc", "seed"]].map((keys) => make("div", { class: "pair" }, ...keys.map((key) => slider(model, key)))), slider(model, "runs")),
      make("div", { class: "card stage grow tight" }, make("div", { class: "soft" }, "Error against the exact values"), errors.key, errors.box),
      make("div", { class: "row" }, codeButton(model, "Python: these values, to the last bit"), linkButton()))));
  update();
}
