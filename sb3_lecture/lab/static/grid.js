// A gridworld on a canvas: cells with a colour, a number and arrows; walls, pits and goals in the lecture's colours.

import { arrow, css, inkOn, mix, number } from "./parts.js";

export const MOVES = [[0, -1], [1, 0], [0, 1], [-1, 0]]; // up, right, down, left
export const SIGNS = ["↑", "→", "↓", "←"];

export function layout(rows, width, height, margin = 4) {
  const [h, w] = [rows.length, rows[0].length];
  const cell = Math.floor(Math.min((width - margin) / w, (height - margin) / h, Math.max(130, height * 0.3)));
  return { cell, left: Math.floor((width - cell * w) / 2), top: Math.floor((height - cell * h) / 2), h, w };
}

export function cellUnder(event, canvas, rows, place, offset = [0, 0]) {
  const box = canvas.getBoundingClientRect();
  const c = Math.floor((event.clientX - box.left - offset[0] - place.left) / place.cell);
  const r = Math.floor((event.clientY - box.top - offset[1] - place.top) / place.cell);
  return rows[r]?.[c] !== undefined && c >= 0 ? [r, c] : null;
}

export function moveCursor(cursor, key, rows) {
  const step = { ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowDown: [1, 0], ArrowLeft: [0, -1] }[key];
  if (!step) return null;
  const [r, c] = cursor ?? [0, 0];
  return [Math.max(0, Math.min(rows.length - 1, r + step[0])), Math.max(0, Math.min(rows[0].length - 1, c + step[1]))];
}

// about(s): { value, text, arrows: [action], lit } of state s, for cells that are neither wall nor end
export function drawGrid(context, place, rows, cells, about, { largest = 1, height = 600 } = {}) {
  const { cell, left, top, h, w } = place;
  const family = getComputedStyle(document.body).fontFamily;
  const font = (size) => { context.font = `${Math.max(12, Math.min(Math.max(20, height / 40), size))}px ${family}`; };
  context.textAlign = "center";
  context.textBaseline = "middle";
  const stateOf = new Map(cells.map(([r, c], s) => [r * w + c, s]));
  for (let r = 0; r < h; r++) {
    for (let c = 0; c < w; c++) {
      const [x, y, symbol] = [left + c * cell, top + r * cell, rows[r][c]];
      const s = stateOf.get(r * w + c);
      if (symbol === "#" || s === undefined) {
        context.fillStyle = css("--wall");
        context.fillRect(x, y, cell, cell);
        continue;
      }
      const ends = "GPTC".includes(symbol);
      const said = ends ? null : about(s);
      const fill = said ? mix(css("--zero"), css(said.value < 0 ? "--minus" : "--plus"), largest > 0 ? Math.min(1, Math.abs(said.value ?? 0) / largest) ** 0.7 : 0) : css("--zero");
      context.fillStyle = fill;
      context.fillRect(x, y, cell, cell);
      thing(context, x, y, cell, symbol, font);
      if (!said) continue;
      if (said.lit) {
        context.strokeStyle = css("--mark");
        context.lineWidth = Math.max(2, cell * 0.05);
        context.strokeRect(x + 3, y + 3, cell - 6, cell - 6);
      }
      const numbers = cell >= 44 && said.text !== "";
      const several = (said.arrows?.length ?? 0) > 1;
      for (const a of said.arrows ?? []) {
        context.strokeStyle = inkOn(fill);
        const size = Math.max(8, cell * (numbers ? 0.3 : 0.5)) * (several ? 0.6 : 1);
        const shift = several ? cell * 0.12 : 0;
        arrow(context, x + cell / 2 + MOVES[a][0] * shift, y + cell / 2 - (numbers ? cell * 0.14 : 0) + MOVES[a][1] * shift, ...MOVES[a], size, cell >= 40 ? 2.2 : 1.5);
      }
      if (numbers) {
        context.fillStyle = inkOn(fill);
        font(cell * 0.17);
        context.fillText(said.text ?? number(said.value, cell >= 60 ? 3 : 2), x + cell / 2, y + cell * 0.72);
      }
    }
  }
  context.strokeStyle = css("--grid");
  context.lineWidth = 1;
  for (let r = 0; r <= h; r++) stroke(context, left, top + r * cell + 0.5, left + w * cell, top + r * cell + 0.5);
  for (let c = 0; c <= w; c++) stroke(context, left + c * cell + 0.5, top, left + c * cell + 0.5, top + h * cell);
}

export function stroke(context, x1, y1, x2, y2) {
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

export function frame(context, place, cell, colour, width = 3) {
  context.strokeStyle = css(colour);
  context.lineWidth = width;
  context.strokeRect(place.left + cell[1] * place.cell + 2, place.top + cell[0] * place.cell + 2, place.cell - 4, place.cell - 4);
}

export function explorer(context, place, at) {
  const size = Math.max(7, place.cell * 0.24);
  const [x, y] = [place.left + at[1] * place.cell + place.cell * 0.08, place.top + at[0] * place.cell + place.cell * 0.08];
  context.fillStyle = "#d7301f";
  context.strokeStyle = "#ffffff";
  context.lineWidth = 2;
  context.fillRect(x, y, size, size);
  context.strokeRect(x, y, size, size);
}

export function path(context, place, cells, colour, { shift = 0, dash = [] } = {}) {
  if (cells.length < 2) return;
  context.strokeStyle = css(colour);
  context.lineWidth = Math.max(3, place.cell * 0.08);
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.globalAlpha = 0.6; // arrows stay readable
  context.beginPath();
  cells.forEach(([r, c], i) => {
    const [x, y] = [place.left + (c + 0.5) * place.cell + shift, place.top + (r + 0.5) * place.cell + shift];
    if (i) context.lineTo(x, y);
    else context.moveTo(x, y);
  });
  context.stroke();
  context.setLineDash([]);
  context.globalAlpha = 1;
}

// the lecture's colours: black hells, a yellow circle as paradise
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
    const inset = symbol === "P" ? cell * 0.17 : 1;
    context.fillStyle = css("--pit");
    context.fillRect(x + inset, y + inset, cell - 2 * inset, cell - 2 * inset);
    context.strokeStyle = css("--soft");
    context.strokeRect(x + inset, y + inset, cell - 2 * inset, cell - 2 * inset);
    context.fillStyle = "#ffffff";
    if (cell >= 30) context.fillText(symbol === "P" ? "−1" : "−100", mx, my);
  } else if (symbol === "S" && cell >= 40) {
    context.fillStyle = css("--soft");
    font(12);
    context.fillText("start", x + cell / 2, y + cell - 9);
  }
}
