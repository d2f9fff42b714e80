// Runs: curves of a world's runs with bands, a table of seeds, and one run's settings, pictures and videos.

import { chart } from "../chart.js";
import { choice, codeButton, linkButton, make, number, problemLine, slider } from "../parts.js";

const COLOURS = 6;

export function render({ model, el }) {
  const stage = make("div", { class: "canvas card runs-chart" });
  const readout = make("div", { class: "readout", role: "status", "aria-live": "polite" });
  const body = make("tbody");
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...["Algorithm and run", "Seed", "Steps"].map((title) => make("th", { scope: "col" }, title)))), body);
  const detail = make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "The chosen run" });
  const world = make("select", { "data-control": "world", "aria-label": "World" });
  world.addEventListener("change", () => { model.set("world", world.value); model.set("run", ""); model.save_changes(); });
  const watch = make("button", { type: "button", class: "main", "data-do": "play", onclick: () => model.send({ do: model.get("playing") ? "pause" : "play" }) });
  let shown = "";
  let plot = null;

  // ---- the curves: a line and two edges of its band for every algorithm, and the optimum

  // the first tenth of learning may be as bad as it likes
  function span(u, low, high) {
    const groups = model.get("groups");
    const later = groups.flatMap((g) => g.mean.slice(Math.floor(g.mean.length / 10))).filter((y) => y !== null);
    const best = groups.map((g) => g.optimum).filter((y) => y !== null);
    const [least, most] = [Math.min(...later, ...best), Math.max(...later, ...best)];
    if (!Number.isFinite(least)) return [low ?? 0, high ?? 1];
    const rim = 0.08 * (most - least) || 1;
    return [least - rim, most + rim];
  }

  function draw() {
    const groups = model.get("groups");
    const optimum = groups.map((g) => g.optimum).find((x) => x !== null);
    const key = JSON.stringify([groups.map((g) => [g.algo, g.n]), model.get("settings").figure, optimum !== undefined]);
    if (key !== shown) {
      shown = key;
      const colour = (i) => `--curve${(i % COLOURS) + 1}`;
      const series = groups.flatMap((g, i) => [
        { label: `${g.algo}, ${g.n} ${g.n === 1 ? "seed" : "seeds"}`, color: colour(i), dash: i >= COLOURS ? [8, 4] : undefined },
        { color: colour(i), width: 0 }, { color: colour(i), width: 0 },
      ]);
      const bands = groups.map((_, i) => ({ series: [3 * i + 2, 3 * i + 3], color: colour(i) }));
      plot = chart(model.hello.controls.find((c) => c.name === "figure").options[model.get("settings").figure],
        [...series, { label: optimum === undefined ? "" : "exact optimum", color: "--second", dash: [6, 4] }], { xLabel: "steps", bands, range: span });
      stage.replaceChildren(make("div", { class: "fill" }, plot.key, plot.box));
    }
    // one common x axis: every curve has points of its own, null elsewhere; lines span what is null
    const xs = [...new Set(groups.flatMap((g) => g.x))].sort((a, b) => a - b);
    const at = (g, column) => {
      const place = new Map(g.x.map((x, i) => [x, column[i]]));
      const [first, last] = [g.x[0], g.x[g.x.length - 1]];
      return xs.map((x) => (x < first || x > last ? null : place.has(x) ? place.get(x) : undefined));
    };
    plot.set([xs, ...groups.flatMap((g) => [at(g, g.mean), at(g, g.high), at(g, g.low)]), xs.map(() => optimum ?? null)]);
  }

  function showDetail() {
    const it = model.get("detail");
    if (!it) {
      detail.replaceChildren(make("p", { class: "soft" }, "Choose a run for its settings, pictures and videos."));
      return;
    }
    const files = it.files.map((name, place) => {
      const source = `/run/${it.number}/${place}`;
      return name.endsWith(".mp4") ? make("video", { src: source, controls: true, "aria-label": name }) : make("a", { href: source, target: "_blank" }, make("img", { src: source, alt: name, loading: "lazy" }));
    });
    const key = JSON.stringify([it.number, it.files]);
    if (detail.dataset.key === key) return;
    detail.dataset.key = key;
    detail.replaceChildren(make("div", {}, make("strong", {}, `${it.algo}, ${it.name}`)), files.length ? make("div", { class: "files" }, ...files) : make("p", { class: "soft" }, "No pictures: sb3-lecture plot draws them."),
      make("table", {}, make("tbody", {}, ...it.options.map(([name, value]) => make("tr", {}, make("td", {}, name), make("td", { class: "value" }, value))))),
      make("p", { class: "soft" }, "Watch it: "), make("pre", { tabIndex: 0 }, it.command));
  }

  const update = () => {
    const groups = model.get("groups");
    if (!groups) return;
    const worlds = model.get("worlds");
    const names = worlds.map(({ id, runs }) => `${id} (${runs})`).join();
    if (world.dataset.names !== names) {
      world.dataset.names = names;
      world.replaceChildren(...worlds.map(({ id, runs }) => make("option", { value: id }, `${id} (${runs})`)));
    }
    world.value = model.get("world_shown");
    watch.textContent = model.get("playing") ? "❚❚ Pause" : "▶ Watch";
    const chosen = model.get("settings").run;
    body.replaceChildren(...groups.flatMap((g) => g.runs.map((run) => make("tr", String(run.number) === chosen ? { class: "next" } : {},
      make("td", {}, make("button", { type: "button", "data-run": String(run.number), onclick: () => { model.set("run", String(run.number)); model.save_changes(); } }, `${g.algo} ${run.name.match(/_(\d+)$/)?.[1] ?? run.name}`)),
      make("td", {}, run.seed === null ? "–" : String(run.seed)), make("td", {}, run.steps === null ? "–" : number(run.steps))))));
    const last = groups.filter((g) => g.n).map((g) => {
      const banded = g.high.findLastIndex((y) => y !== null);
      const i = banded >= 0 ? banded : g.mean.findLastIndex((y) => y !== null);
      return `${g.algo} ${number(g.mean[i], 2)}${banded >= 0 ? ` ± ${number(g.high[i] - g.mean[i], 2)}` : ""}`;
    });
    readout.textContent = last.length ? `At the end (mean, 95 %): ${last.join("; ")}` : groups.length ? "These runs hold no such figure." : "";
    readout.title = readout.textContent;
    draw();
    showDetail();
  };
  model.on("change", update);

  el.append(make("div", { class: "page" },
    make("section", { class: "stage", "aria-label": "Curves" },
      problemLine(model), stage, readout,
      make("div", { class: "card row" }, make("button", { type: "button", "data-do": "refresh", onclick: () => model.send({ do: "refresh" }) }, "Look again"), watch, make("span", { class: "grow" }, slider(model, "window")))),
    make("section", { class: "panel", "aria-label": "Runs" },
      make("div", { class: "card sliders" }, make("label", { class: "select" }, "World", world), choice(model, "figure")),
      make("div", { class: "card stage grow" }, make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "All runs of this world" }, table)),
      make("div", { class: "card stage grow" }, detail),
      make("div", { class: "row" }, codeButton(model, "Python: what the runs recorded"), linkButton()))));
  update();
}
