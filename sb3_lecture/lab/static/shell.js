// The frame around a page: menu, theme, connection, permalink.

import { make } from "./parts.js";
import { SocketModel } from "./socket_model.js";

const TEXTS = {
  treasure_line: "A reward travels back along a line, one number at a time. Steps per episode fall.",
  gridworld: "Paint a map, drag a slider: the whole run is done anew while you drag, and graded exactly.",
  planning: "Value and policy iteration sweep by sweep, prioritized sweeping's queue, Dyna's imagined steps: each change is framed.",
  cliff: "Sarsa and Q-learning on the same seeds: one learns the safe way and earns more, the other the short way and falls.",
  bandits: "Four ways to explore the same levers: ε-greedy, UCB, preferences, Thompson sampling; regret, exactly.",
  random_walk: "TD(0), TD(λ) and Monte Carlo guess the same walk, episode by episode, beside the exact values.",
  boards: "Play TicTacToe, Connect Four, Othello, Go or Nim; see what a search thinks of each move, and what it is worth exactly.",
  runs: "The logs folder: seeds grouped, mean and 95 % band beside the exact optimum, pictures and videos.",
  search_tree: "Monte-Carlo tree search grows, one simulation a click: N, Q, P and U on every edge, by PUCT, Gumbel or UCT.",
};

function theme() {
  const button = document.getElementById("theme");
  const show = (name) => {
    document.documentElement.dataset.theme = name;
    button.textContent = name === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use the ${name === "dark" ? "light" : "dark"} theme`);
    document.dispatchEvent(new Event("themechange"));
  };
  let now = localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  show(now);
  button.addEventListener("click", () => {
    now = now === "dark" ? "light" : "dark";
    localStorage.setItem("theme", now);
    show(now);
  });
}

// ---- the state in the address: settings that are not the defaults, after "#"

function readAddress(controls) {
  const settings = {};
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    const control = controls.find((c) => c.name === name);
    if (control) settings[name] = control.kind === "number" ? Number(text) : text;
  }
  return settings;
}

function writeAddress(model) {
  const query = new URLSearchParams();
  for (const control of model.hello.controls) {
    const value = model.get("settings")[control.name];
    if (value !== control.default) query.set(control.name, String(value));
  }
  const hash = query.toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", `${location.pathname}${hash ? `#${hash}` : ""}`);
}

async function openPage(name, title) {
  const main = document.getElementById("page");
  const connection = document.getElementById("connection");
  document.title = `${title} – the lab`;
  main.append(make("p", { class: "soft" }, "Loading the learners …"));
  const view = import(`./views/${name}.js`);
  let clearing = 0;
  const model = new SocketModel(`ws://${location.host}/talk/${name}`, (text, well) => {
    connection.textContent = text;
    clearTimeout(clearing);
    if (well && text) clearing = setTimeout(() => (connection.textContent = ""), 5000);
  });
  let mounted = false;
  let writing = 0;
  model.on("change", async () => {
    if (!mounted) {
      mounted = true;
      const fromAddress = readAddress(model.hello.controls);
      if (Object.keys(fromAddress).length) {
        for (const [setting, value] of Object.entries(fromAddress)) model.set(setting, value);
      }
      const { render } = await view;
      main.replaceChildren();
      render({ model, el: main });
      model.save_changes();
      main.dataset.ready = "true";
    }
    clearTimeout(writing); // browsers allow a hundred changes of the address in thirty seconds
    writing = setTimeout(() => writeAddress(model), 400);
  });
  model.on("busy", (busy) => main.classList.toggle("busy", busy));
  window.addEventListener("hashchange", () => location.reload());
  window.lab = model; // for the curious, in the browser's console
}

async function start() {
  theme();
  const { pages } = await (await fetch("/pages.json")).json();
  const here = location.pathname.startsWith("/page/") ? location.pathname.slice("/page/".length) : "";
  const menu = document.getElementById("menu");
  for (const { name, title } of pages) {
    menu.append(make("a", name === here ? { href: `/page/${name}`, "aria-current": "page" } : { href: `/page/${name}` }, title));
  }
  const page = pages.find((p) => p.name === here);
  if (page) return openPage(page.name, page.title);
  const main = document.getElementById("page");
  const cards = pages.map(({ name, title }) => make("a", { href: `/page/${name}` }, make("div", { class: "card" }, make("h2", {}, title), make("p", {}, TEXTS[name] ?? ""))));
  main.replaceChildren(...(here ? [make("p", { class: "problem" }, "There is no such page.")] : []), make("div", { class: "pages" }, ...cards));
  main.dataset.ready = "true";
}

start();
