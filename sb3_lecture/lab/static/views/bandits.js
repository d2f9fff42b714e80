// Bandits: levers as columns, their worth as lines, estimates as bars; below, all methods on average.

import { chart } from "../chart.js";
import { choice, codeButton, css, drawing, linkButton, make, number, problemLine, slider, transport } from "../parts.js";

const COLOURS = { epsilon: "--accent", ucb: "--second", gradient: "--mark", thompson: "--soft" };
const DASHES = { epsilon: undefined, ucb: [8, 4], gradient: [2, 3], thompson: [10, 3, 2, 3] };

export function render({ model, el }) {
  const { canvas, redraw } = drawing("The levers: what they are worth, what is believed, how often each was pulled", draw);
  const readout = make("div", { class: "readout", role: "status", "aria-live": "polite" });
  const equation = make("div", { class: "equation card", role: "group", "aria-label": "The update of the last pull, with its numbers" });
  const methods = Object.entries(model.hello.controls.find((c) => c.name === "method").options);
  const series = methods.map(([name, title]) => ({ label: title, color: COLOURS[name], dash: DASHES[name] }));
  const share = chart("Share of pulls of the best lever, mean over tasks", series, { log: true, range: [0, 1] });
  const lost = chart("Regret so far, mean over tasks", series, { log: true, min: 0 });

  function draw(context, width, height) {
    const worth = model.get("worth");
    if (!worth) return;
    const [values, counts, bound, last] = [model.get("values"), model.get("counts"), model.get("bound"), model.get("last")];
    const method = model.get("settings").method;
    const family = getComputedStyle(document.body).fontFamily;
    const size = Math.max(12, Math.min(height / 26, width / worth.length / 4.2));
    const font = (scale = 1) => { context.font = `${Math.max(12, size * scale)}px ${family}`; };
    const [top, bottom, left] = [18, height - (method === "ucb" || method === "thompson" ? 2.5 : 3.6) * Math.max(14, size * 1.25), 34];
    const column = (width - left - 8) / worth.length;
    const shown = method === "gradient" ? worth : [...worth, ...values, ...(method === "ucb" ? bound.filter((x) => x !== null && x < 6) : [])];
    const high = Math.max(2, ...shown) + 0.3;
    const low = Math.min(-2, ...shown) - 0.3;
    const y = (v) => top + ((high - Math.max(low, Math.min(high, v))) / (high - low)) * (bottom - top);
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillStyle = css("--soft");
    font(0.9);
    for (let v = Math.ceil(low); v <= high; v++) {
      context.strokeStyle = css("--line");
      context.lineWidth = v === 0 ? 2 : 1;
      line(context, left, y(v), width - 8, y(v));
      context.fillText(number(v), left - 6, y(v));
    }
    const best = worth.indexOf(Math.max(...worth));
    context.textAlign = "center";
    worth.forEach((w, a) => {
      const x = left + column * (a + 0.5);
      const half = column * 0.3;
      const lit = last && last.action === a;
      if (lit) {
        context.fillStyle = css("--lit");
        context.fillRect(x - column * 0.46, top, column * 0.92, height - top - 4);
      }
      if (method === "gradient") {
        context.fillStyle = css("--plus");
        const h = bound[a] * (bottom - top) * 0.95;
        context.fillRect(x - half, bottom - h, 2 * half, h);
      } else {
        context.fillStyle = css(values[a] < 0 ? "--minus" : "--plus");
        context.globalAlpha = counts[a] ? 1 : 0.35;
        context.fillRect(x - half, Math.min(y(0), y(values[a])), 2 * half, Math.max(2, Math.abs(y(values[a]) - y(0))));
        context.globalAlpha = 1;
        context.strokeStyle = css("--ink");
        context.lineWidth = 2;
        if (method === "ucb") {
          const to = bound[a] === null ? high : bound[a];
          line(context, x, y(values[a]), x, y(to));
          if (bound[a] !== null) line(context, x - half / 2, y(to), x + half / 2, y(to));
        }
        if (method === "thompson") line(context, x, y(values[a] - bound[a]), x, y(values[a] + bound[a]));
      }
      context.strokeStyle = css("--second");
      context.lineWidth = 4;
      line(context, x - column * 0.42, y(w), x + column * 0.42, y(w));
      context.fillStyle = a === best ? css("--second") : css("--soft");
      font(a === best ? 1.05 : 0.95);
      context.fillText(a === best ? `${a + 1} ★` : String(a + 1), x, bottom + size * 0.9);
      context.fillStyle = css("--ink");
      font(0.9);
      context.fillText(column < 40 && counts[a] > 999 ? `${Math.round(counts[a] / 1000)}k` : number(counts[a]), x, bottom + size * 2.1);
      context.fillStyle = css("--soft");
      if (method === "gradient" || method === "epsilon") context.fillText(column < 44 ? `${Math.round(100 * bound[a])}` : `${Math.round(100 * bound[a])} %`, x, bottom + size * 3.3);
    });
  }

  function line(context, x1, y1, x2, y2) {
    context.beginPath();
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
    context.stroke();
  }

  // ---- the update with its numbers

  const term = (symbol, value, lit = false) => make("span", { class: `term number${lit ? " lit" : ""}`, "data-term": symbol }, make("b", {}, symbol), make("span", {}, value));
  const sign = (text) => make("span", { class: "sign" }, text);
  function showEquation() {
    const [last, { method }] = [model.get("last"), model.get("settings")];
    if (!last) {
      equation.replaceChildren(make("span", { class: "soft" }, "No lever was pulled yet: press One pull."));
      return;
    }
    const a = last.action + 1;
    if (method === "gradient") {
      equation.replaceChildren(term(`H(${a})`, number(last.new, 4), true), sign("←"), term("H", number(last.old, 4)), sign("+"), term("α", number(last.alpha, 2)), sign("("), term("r", number(last.reward, 3), true), sign("−"), term("mean reward", number(last.baseline, 3)),
        sign(") ("), term("1 − π", number(1 - last.pi, 3), true), sign(")"));
      return;
    }
    equation.replaceChildren(term(`Q(${a})`, number(last.new, 4), true), sign("←"), term("Q", number(last.old, 4)), sign("+"), term(method === "thompson" ? "1 / (N + 1/σ²)" : "1 / N", number(last.step, 4), last.step > 0.05), sign("("), term("r", number(last.reward, 3), true), sign("−"), term("Q", number(last.old, 4)), sign(")"),
      sign("; worth"), term(`q*(${a})`, number(model.get("worth")[last.action], 3)));
  }

  const NOTES = {
    epsilon: "Below each lever: its number, its pulls, the chance that it is next.", ucb: "Whiskers are Q + c √(ln t / N): the highest is next. Below: number, pulls.",
    gradient: "Bars are the chances of the levers, a softmax of preferences. Below: number, pulls, chance.", thompson: "Whiskers are one standard deviation of the posterior; the next lever is the best of one draw each.",
  };
  const figures = make("div", { class: "figure" });
  const update = () => {
    const worth = model.get("worth");
    if (!worth) return;
    const { method } = model.get("settings");
    const regret = make("strong", { "data-figure": "regret" }, number(model.get("regret"), 1));
    figures.replaceChildren(regret, make("span", { class: "soft" }, `exact regret here; ${number(100 * model.get("optimal"), 0)} % best`));
    readout.textContent = `Orange: what a lever is worth, ★ the best. ${NOTES[method]}`;
    const curves = model.get("curve");
    share.set([curves.steps, ...methods.map(([name]) => curves[name].optimal)]);
    lost.set([curves.steps, ...methods.map(([name]) => curves[name].regret)]);
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
      transport(model, ["speed", "steps"], { step: "One pull", episode: "100 pulls" })),
    make("section", { class: "panel", "aria-label": "Settings" },
      make("div", { class: "card sliders" },
        make("div", { class: "row" }, choice(model, "method")),
        ...[["k", "epsilon"], ["c", "alpha"], ["prior", "seed"]].map((keys) => make("div", { class: "pair" }, ...keys.map((key) => slider(model, key)))), slider(model, "tasks")),
      make("div", { class: "card stage grow tight" }, figures, share.key, make("div", { class: "soft" }, "Share of the best lever, mean over tasks"), share.box, make("div", { class: "soft" }, "Regret so far, mean over tasks"), lost.box),
      make("div", { class: "row" }, codeButton(model, "Python: these pulls", "Thompson sampling has no learner of its own; use the Python above."), linkButton()))));
  update();
}
