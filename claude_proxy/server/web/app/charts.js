// Charts of the history: stacked bars or lines over periods, drawn by uPlot. Each has a legend with the numbers under the
// pointer, and is a slider for the keyboard and for screen readers: the arrow keys go from period to period.

import { el, fill } from "./dom.js";
import { ticks } from "./periods.js";

export const COLOURS = 8;
const HEIGHT = 170;
const FONT = "12px system-ui, sans-serif";
// The least distance of two labels of the axis, the space between them, and the least width of a bar, in CSS pixels.
const LABEL = 68;
const GAP = 14;
const MIN_BAR = 3;
const AXIS = 52;
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: -7, PageDown: 7, Home: -Infinity, End: Infinity };
// A place of the pointer that is in no chart.
const OUTSIDE = { left: -10, top: -10 };
let library = null;

// Loads uPlot, once; only the history needs it.
export function load() {
  library ??= new Promise((resolve, reject) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("uPlot.min.css", import.meta.url).href;
    const script = document.createElement("script");
    script.src = new URL("uPlot.iife.js", import.meta.url).href;
    script.onload = () => resolve(window.uPlot);
    script.onerror = () => {
      library = null;
      reject(new Error("the charts' library did not arrive"));
    };
    document.head.append(style, script);
  });
  return library;
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// One chart in a figure. `onSelect(first, last)` gets the places of the periods over which the pointer was drawn.
export class Chart {
  constructor(onSelect) {
    this.figure = document.createElement("figure");
    this.figure.className = "chart";
    this.caption = document.createElement("figcaption");
    this.plot = document.createElement("div");
    this.plot.className = "plot";
    this.legend = document.createElement("ul");
    this.legend.className = "legend";
    this.figure.append(this.caption, this.plot, this.legend);
    this.onSelect = onSelect;
    this.drawn = null; // the chart of uPlot, and what of its description cannot change without a new one
    this.shape = "";
    this.at = null; // the place of the period under the pointer
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => this.drawn?.setCursor(OUTSIDE, true, true));
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.figure);
  }

  // Shows a description: {title, kind: "stack" or "lines", periods (described), series: [{name, values, total, colour, narrow,
  // words (returns the number at a place, or with null their sum, in words; without it they have the format), hint (the title of their sum)}], format, axis (a shorter format), more (a text after the names), sum (the text beside the title), top (the largest value, if it is given)}.
  update(description) {
    this.description = description;
    if (this.at >= description.periods.length) this.at = null;
    this.draw();
    this.point(this.at);
  }

  draw(anew = false) {
    const width = Math.floor(this.plot.clientWidth);
    if (!this.description || !window.uPlot || width < 60) return;
    const { kind, periods, series } = this.description;
    const bars = (width - AXIS) / periods.length >= MIN_BAR;
    const shape = JSON.stringify([kind, bars, periods.length, series.map((one) => one.colour)]);
    const data = [periods.map((_, place) => place), ...rows(this.description)];
    if (anew || shape !== this.shape || !this.drawn) {
      this.drawn?.destroy();
      this.shape = shape;
      this.drawn = new window.uPlot(this.options(width, bars), data, this.plot);
    } else {
      if (this.drawn.width !== width) this.drawn.setSize({ width, height: HEIGHT });
      this.drawn.setData(data);
    }
  }

  options(width, bars) {
    const { kind, series, periods } = this.description;
    const [soft, line] = [css("--soft"), css("--line")];
    const axis = { stroke: soft, font: FONT, ticks: { show: false }, grid: { stroke: line, width: 1 } };
    const drawn = series.map((one, place) => (kind === "stack"
      ? { fill: css(one.colour), width: 0, stroke: css(one.colour), points: { show: false }, paths: bars ? window.uPlot.paths.bars({ size: [0.8, 36] }) : window.uPlot.paths.stepped({ align: 1 }) }
      : { stroke: css(one.colour), width: 2, dash: DASHES[place % DASHES.length], points: { size: 4, fill: css(one.colour) } }));
    if (kind === "stack") drawn.reverse();
    return {
      width, height: HEIGHT, legend: { show: false }, padding: [8, 18, 0, 0],
      scales: {
        x: { time: false, range: () => [-0.6, Math.max(0, this.description.periods.length - 0.4)] },
        y: { range: (_, low, high) => [0, this.description.top ?? (high > 0 ? high * 1.06 : 1)] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 26, gap: 4,
          splits: () => ticks(this.description.periods, Math.floor(((this.drawn?.width ?? width) - AXIS) / labelWidth(this.description.periods))),
          values: (_, splits) => splits.map((place) => this.description.periods[place]?.short ?? "") },
        { ...axis, size: AXIS, gap: 4, values: (_, splits) => splits.map((value) => (this.description.axis ?? this.description.format)(value)) },
      ],
      series: [{}, ...drawn],
      cursor: {
        y: false, ...(kind === "stack" && { points: { show: false } }), sync: { key: "history", setSeries: false },
        drag: { x: periods.length > 1, y: false, setScale: false },
      },
      hooks: { setCursor: [(chart) => this.point(chart.cursor.left < 0 ? null : chart.cursor.idx)], setSelect: [(chart) => this.select(chart)] },
    };
  }

  // Shows the numbers of a period, or the sums of all.
  point(place) {
    this.at = place ?? null;
    const { title, periods, series, format, more, sum } = this.description;
    const where = this.at === null ? sum : periods[this.at].name;
    const numbers = series.map((one) => ({ ...one, text: one.words?.(this.at) ?? format(this.at === null ? one.total : one.values[this.at]) }));
    fill(this.caption, [el("span", { class: "chart-title", text: title }), el("span", { class: "soft", text: where })]);
    fill(this.legend, [...numbers.map((one) => el("li", {},
      el("span", { class: "swatch", style: { "background-color": `var(${one.colour})` } }),
      one.narrow ? el("button", { type: "button", class: "link", "data-narrow": one.narrow, text: one.name }) : el("span", { text: one.name }),
      el("strong", { text: one.text, title: this.at === null && one.hint }))), ...(more ? [el("li", { class: "soft", text: more })] : [])]);
    const attributes = {
      role: "slider", tabindex: 0, "aria-label": `${title}, by period`, "aria-valuemin": 1, "aria-valuemax": Math.max(1, periods.length),
      "aria-valuenow": (this.at ?? Math.max(0, periods.length - 1)) + 1,
      "aria-valuetext": `${where}: ${numbers.map((one) => `${one.name} ${one.text}`).join(", ")}`,
    };
    for (const [name, value] of Object.entries(attributes)) this.plot.setAttribute(name, value);
  }

  key(event) {
    if (!(event.key in STEPS) || !this.drawn || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const last = this.description.periods.length - 1;
    const from = this.at ?? (STEPS[event.key] > 0 ? -1 : last + 1);
    const place = Math.min(last, Math.max(0, from + STEPS[event.key]));
    this.drawn.setCursor({ left: this.drawn.valToPos(place, "x"), top: 10 }, true, true); // and those of the other charts
  }

  select(chart) {
    const { left, width } = chart.select;
    if (width < 8) return;
    const place = (pixels) => Math.min(this.description.periods.length - 1, Math.max(0, Math.round(chart.posToVal(pixels, "x"))));
    chart.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.onSelect(place(left), place(left + width));
  }

  remove() {
    this.resized.disconnect();
    this.drawn?.destroy();
    this.figure.remove();
  }
}

const ruler = document.createElement("canvas").getContext("2d");

// Returns how far the labels of an axis must be apart: "12:00 PM" is wider than "12:00".
function labelWidth(periods) {
  ruler.font = FONT;
  return Math.max(LABEL, GAP + Math.max(...periods.map((one) => ruler.measureText(one.short).width)));
}

// Returns the rows for uPlot. Bars are drawn one over the other, so each has the sum of those below it, and the tallest is first.
function rows({ kind, series }) {
  if (kind !== "stack") return series.map((one) => one.values);
  const sums = [];
  series.forEach((one, place) => sums.push(one.values.map((value, period) => (value ?? 0) + (place ? sums[place - 1][period] : 0))));
  return sums.reverse();
}
