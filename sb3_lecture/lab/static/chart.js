// Curves by uPlot, in the page's colours.

import uPlot from "./vendor/uPlot.js";
import { css, make } from "./parts.js";

// series: [{ label, color (a CSS variable), dash, steps }]
export function chart(label, series, { log = false, xLabel = "", min = null, range = null, atLeast = 0, bands = [] } = {}) {
  const box = make("div", { class: "chart", role: "img", "aria-label": label });
  const key = make("div", { class: "soft row" }, ...series.filter((s) => s.label).map((s) => make("span", { class: s.color.slice(2) }, `${s.dash ? "┅" : "━"} ${s.label}`)));
  let plot = null;
  let data = [[], ...series.map(() => [])];
  const build = () => {
    plot?.destroy();
    const size = parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.82;
    const font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
    const axis = (extra) => ({ stroke: css("--soft"), font, labelFont: font, grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, ...extra });
    plot = new uPlot({
      width: Math.max(120, box.clientWidth), height: Math.max(60, box.clientHeight),
      padding: [8, 26, 0, 0], cursor: { y: false },
      scales: { x: { time: false, distr: log ? 3 : 1, log: 10, ...(atLeast ? { range: (u, low, high) => [0, Math.max(atLeast, high ?? 0)] } : {}) }, y: range ? { range } : min === null ? {} : { range: (u, low, high) => [Math.min(min, low ?? min), Math.max(min + 1e-9, high ?? 1) * 1.05] } },
      axes: [
        axis({ ...(xLabel ? { label: xLabel, labelSize: size + 4 } : {}), size: 2 * size, incrs: log ? undefined : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000], values: (u, ticks) => ticks.map((t) => t === null ? "" : log && Math.log10(t) % 1 ? "" : t.toLocaleString("en", { notation: "compact" })) }),
        axis({ size: 4 * size, values: (u, ticks) => ticks.map((t) => Number(t.toFixed(6)).toLocaleString("en")) }),
      ],
      legend: { show: false },
      bands: bands.map(({ series: pair, color }) => ({ series: pair, fill: `${css(color)}33` })),
      series: [{}, ...series.map((s) => ({ label: s.label, stroke: css(s.color), width: s.width ?? 2, dash: s.dash, points: { show: false }, spanGaps: false }))],
    }, data, box);
  };
  new ResizeObserver(() => {
    if (plot) plot.setSize({ width: Math.max(120, box.clientWidth), height: Math.max(60, box.clientHeight) });
    else if (box.clientWidth) build();
  }).observe(box);
  document.addEventListener("themechange", () => plot && build());
  const set = (columns) => {
    data = columns;
    plot?.setData(data);
  };
  return { box, key, set };
}
