// Parts that views are built of: elements, sliders, choices, the transport, the equation, dialogs.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function number(value, digits = 3) {
  if (value === null || value === undefined) return "∞";
  if (Number.isInteger(value)) return value.toLocaleString("en").replace("-", "−");
  const size = Math.abs(value);
  const text = size >= 1000 ? Math.round(value).toLocaleString("en") : size >= 100 ? value.toFixed(1)
    : size < 0.5 * 10 ** -digits ? (value < 0 ? "−0" : "0") : value.toFixed(digits);
  return text.replace("-", "−");
}

// ---- controls

const NOTCHES = 1000;

function toValue(control, notch) {
  if (!control.log) return notch;
  if (notch === 0) return control.low;
  const low = Math.max(control.low, 1);
  return Math.round(low * (control.high / low) ** (notch / NOTCHES));
}

function toNotch(control, value) {
  if (!control.log) return value;
  const low = Math.max(control.low, 1);
  if (value < low) return 0;
  return Math.max(control.low < 1 ? 1 : 0, Math.round((NOTCHES * Math.log(value / low)) / Math.log(control.high / low)));
}

export function slider(model, name) {
  const control = model.hello.controls.find((c) => c.name === name);
  const output = make("output");
  const range = make("input", {
    type: "range", id: `control-${name}`, min: String(control.log ? 0 : control.low), max: String(control.log ? NOTCHES : control.high),
    step: String(control.log ? 1 : control.step), "data-control": name,
  });
  range.addEventListener("input", () => {
    let value = toValue(control, Number(range.value));
    const now = model.get("settings")[name];
    const side = Math.sign(Number(range.value) - toNotch(control, now));
    if (control.log && value === now && side) value = Math.min(control.high, Math.max(control.low, now + side));
    model.set(name, value);
    model.save_changes();
  });
  const symbol = control.symbol ? make("span", { class: "symbol" }, ` ${control.symbol}`) : "";
  const ends = `${number(control.low)} to ${number(control.high)}${control.unit ? ` ${control.unit}` : ""}`;
  const element = make("label", { class: "slider", title: ends, for: range.id }, make("span", {}, control.label, symbol), output, range);
  const update = () => {
    const value = model.get("settings")[name];
    const notch = String(toNotch(control, value));
    if (range.value !== notch) range.value = notch;
    const text = `${number(value, control.step < 0.1 ? 2 : 1)}${control.unit ? ` ${control.unit}` : ""}`;
    if (output.textContent !== text) {
      output.textContent = text;
      range.setAttribute("aria-valuetext", `${text} (${ends})`);
    }
  };
  model.on("change", update);
  update();
  return element;
}

export function choice(model, name) {
  const control = model.hello.controls.find((c) => c.name === name);
  const select = make("select", { "data-control": name },
    ...Object.entries(control.options).map(([value, title]) => make("option", { value }, title)));
  select.addEventListener("change", () => {
    model.set(name, select.value);
    model.save_changes();
  });
  const update = () => (select.value = model.get("settings")[name]);
  model.on("change", update);
  update();
  return make("label", { class: "select" }, control.label, select);
}

// ---- play, step, episode, reset, pace, time line

export function transport(model, sliders = ["speed", "steps"], texts = {}) {
  const order = (name) => () => model.send({ do: name });
  const play = make("button", { type: "button", class: "main", "data-do": "play", title: "Space" });
  const toggle = () => model.send({ do: model.get("playing") ? "pause" : "play" });
  play.addEventListener("click", toggle);
  const update = () => {
    play.textContent = model.get("playing") ? "❚❚ Pause" : "▶ Play";
  };
  model.on("change", update);
  update();
  const keys = { n: order("step"), e: order("episode"), r: order("reset") };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, select, textarea, button, a, canvas")) return;
    if (event.key === " ") {
      event.preventDefault();
      toggle();
    } else keys[event.key]?.();
  });
  const button = (name, text, key) => make("button", { type: "button", "data-do": name, title: `Key ${key}`, onclick: order(name) }, text);
  return make("div", { class: "transport card" },
    make("div", { class: "row" }, button("reset", texts.reset ?? "Reset", "R"), button("step", texts.step ?? "One step", "N"), button("episode", texts.episode ?? "One episode", "E"), play),
    ...sliders.map((name) => slider(model, name)));
}

// ---- the update's equation with its numbers

const NEXT = {
  dyna_q: "max Q(s′,·)", q_learning: "max Q(s′,·)", q_lambda: "max Q(s′,·)", sarsa: "Q(s′,a′)", sarsa_lambda: "Q(s′,a′)", expected_sarsa: "Σπ Q(s′,·)",
};

export function equation(model, names) {
  const box = make("div", { class: "equation card", role: "group", "aria-label": "The update of the last step, with its numbers" });
  let shown = "";
  const term = (symbol, value, lit) => make("span", { class: `term number${lit ? " lit" : ""}`, "data-term": symbol },
    make("b", {}, symbol), make("span", {}, value));
  const sign = (text) => make("span", { class: "sign" }, text);
  const update = () => {
    const learned = model.get("learned");
    const settings = model.get("settings");
    const t = learned?.transition;
    const key = JSON.stringify([t, settings.learner, settings.alpha]);
    if (key === shown) return;
    shown = key;
    const value = (x) => (t ? number(x, 4) : "–");
    const lit = Boolean(t);
    const pair = t ? `Q(${names.state(t.state)},${names.action(t.action)})` : "Q(s,a)";
    const trace = settings.learner.endsWith("lambda") ? "] · e" : "]"; // every pair moves, by its trace
    const discount = !t ? "–" : t.terminated ? "0 (end)" : `${number(t.discount, 2)}${t.truncated ? " (cut)" : ""}`;
    box.replaceChildren(
      term(pair, value(t?.new_q), lit), sign("←"), term("Q(s,a)", value(t?.q), false), sign("+"),
      term("α", number(settings.alpha, 2), false), sign("["), term("r", value(t?.reward), lit && t.reward !== 0), sign("+"),
      term("γ", discount, Boolean(t && (t.terminated || t.truncated))), term(NEXT[settings.learner], value(t?.next_value), lit && t.next_value !== 0),
      sign("−"), term("Q(s,a)", value(t?.q), lit && t.q !== 0), sign(trace),
      term("δ, the TD error", value(t?.delta), lit && Math.abs(t.delta) >= 5e-5));
    box.title = "Where the episode ends, nothing follows: γ counts 0. Where the time limit cuts it off, γ counts as ever.";
  };
  model.on("change", update);
  update();
  return box;
}

// ---- dialogs

export function dialog(title, ...children) {
  const close = make("button", { type: "button" }, "Close");
  const element = make("dialog", { "aria-label": title }, make("h2", {}, title), ...children, make("div", { class: "row" }, make("span", { class: "grow" }), close));
  close.addEventListener("click", () => element.close());
  document.body.append(element);
  return element;
}

export function copied(button, text) {
  navigator.clipboard?.writeText(text).catch(() => {});
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = before), 1200);
}

export function codeButton(model, title = "Python: this table, to the last bit", without = "The command takes no map with cliff cells; use the Python above.") {
  const python = make("pre", { "data-code": "python", tabIndex: 0 });
  const command = make("pre", { "data-code": "command", tabIndex: 0 });
  const copy = (source) => make("button", { type: "button", onclick: (event) => copied(event.target, source.textContent) }, "Copy");
  const window_ = dialog("The same without the lab", make("h3", {}, title), python, copy(python),
    make("h3", {}, "Command"), command, copy(command));
  const fill = () => {
    const code = model.get("code");
    python.textContent = code.python;
    command.textContent = code.command || without;
  };
  model.on("change", () => window_.open && fill());
  return make("button", { type: "button", "data-do": "code", onclick: () => { fill(); window_.showModal(); } }, "Code");
}

export function linkButton() {
  return make("button", { type: "button", "data-do": "link", title: "A link to exactly this state",
    onclick: (event) => copied(event.target, location.href) }, "Copy link");
}

export function problemLine(model) {
  const line = make("div", { class: "problem", role: "alert", hidden: true });
  const update = () => {
    const text = model.refusal || model.get("problem") || "";
    if (line.textContent !== text) line.textContent = text;
    line.hidden = !text;
  };
  model.on("change", update);
  update();
  return line;
}

export function regretFigure(model, title = "Exact regret") {
  const value = make("strong", { "data-figure": "regret" });
  const note = make("span", { class: "soft" });
  const update = () => {
    const learned = model.get("learned");
    value.textContent = learned ? number(learned.regret, 4) : "–";
    value.dataset.exact = learned ? String(learned.regret) : "";
    note.textContent = !learned ? "" : learned.regret === null ? "the greedy policy never arrives" : learned.regret < 1e-9 ? "the greedy policy is optimal"
      : "what the greedy policy loses";
  };
  model.on("change", update);
  update();
  return make("div", {}, make("div", { class: "soft" }, title), make("div", { class: "figure" }, value, note));
}

// ---- canvas

export function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function mix(from, to, share) {
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [a, b] = [rgb(from), rgb(to)];
  return `#${a.map((x, i) => Math.round(x + (b[i] - x) * share).toString(16).padStart(2, "0")).join("")}`;
}

export function inkOn(hex) {
  const [r, g, b] = [1, 3, 5].map((i) => (parseInt(hex.slice(i, i + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.2 ? "#10161d" : "#ffffff";
}

export function drawing(label, draw) {
  const canvas = make("canvas", { role: "img", "aria-label": label });
  let asked = false;
  const paint = () => {
    asked = false;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    const scale = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    draw(context, width, height);
    canvas.dataset.drawn = String(Number(canvas.dataset.drawn ?? 0) + 1);
  };
  const redraw = () => {
    if (!asked) {
      asked = true;
      requestAnimationFrame(paint);
    }
  };
  new ResizeObserver(redraw).observe(canvas);
  document.addEventListener("themechange", redraw);
  return { canvas, redraw };
}

export function arrow(context, x, y, dx, dy, length, width) {
  context.lineWidth = width;
  context.lineCap = "round";
  context.lineJoin = "round";
  const [hx, hy] = [x + (dx * length) / 2, y + (dy * length) / 2];
  const head = Math.max(3, length * 0.3);
  context.beginPath();
  context.moveTo(x - (dx * length) / 2, y - (dy * length) / 2);
  context.lineTo(hx, hy);
  context.moveTo(hx - dx * head - dy * head * 0.7, hy - dy * head - dx * head * 0.7);
  context.lineTo(hx, hy);
  context.lineTo(hx - dx * head + dy * head * 0.7, hy - dy * head + dx * head * 0.7);
  context.stroke();
}
