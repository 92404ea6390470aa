// The tables of the history: the rows of a split, and the periods. Both have every number of the charts.

import { el } from "./dom.js";
import { count, percent, seconds, short, usd, whole } from "./format.js";

// What is known of no name: the requests beyond the names that are kept apart.
export const OTHER = "other";
const BY_COST = "usd.down";
export const rate = (value) => (value === null || value === undefined ? "–" : percent(value));

// The columns of the tables: what is in them, and which of them a narrow screen leaves out unless the rows are sorted by them.
const COLUMNS = [
  { key: "requests", title: "requests", text: (row) => whole.format(row.requests) },
  { key: "usd", title: "cost", text: (row) => money(row), hint: (row) => hintOf(row) },
  { key: "input", title: "fresh tokens", text: (row) => short.format(row.input), wide: true },
  { key: "cache_read", title: "cached tokens", text: (row) => short.format(row.cache_read), wide: true },
  { key: "cache_write", title: "written tokens", text: (row) => short.format(row.cache_write), wide: true },
  { key: "output", title: "output tokens", text: (row) => short.format(row.output), wide: true },
  { key: "cache_hit_rate", title: "cache hits", text: (row) => rate(row.cache_hit_rate) },
  { key: "first_byte_p50", title: "first byte p50", text: (row) => seconds(row.first_byte_p50), wide: true },
  { key: "first_byte_p95", title: "first byte p95", text: (row) => seconds(row.first_byte_p95) },
  { key: "errors", title: "errors", text: (row) => whole.format(row.errors), bad: (row) => row.errors > 0 },
  { key: "failovers", title: "failovers", text: (row) => whole.format(row.failovers), wide: true },
];

// What the cost of a row does not include; false if it has all of them.
export const hintOf = (row) => row.unpriced > 0 && row.usd > 0 && `${count(row.unpriced, "request")} without a known price`;

// "$12.50"; "at least" that if some requests have no known price.
export function money(row) {
  if (row.unpriced && !row.usd) return "not known";
  return `${row.unpriced ? "at least " : ""}${usd.format(row.usd)}`;
}

// Returns the share of the input that was read from the cache; null without any input.
export function hitRate({ input, cache_read, cache_write }) {
  const all = input + cache_read + cache_write;
  return all ? cache_read / all : null;
}

// Returns the table of a split in an order such as "requests.down"; `sorted` gets the order that a click chooses. Each name has
// buttons that narrow to it and split it by one of `others`.
export function splitTable(data, order, sorted, others) {
  const [key, direction] = (order || BY_COST).split(".");
  const sign = direction === "up" ? 1 : -1;
  const of = (row) => (key === "name" ? row.name : row[key] ?? -1);
  const rows = [...data.rows].sort((one, other) => sign * (of(one) > of(other) ? 1 : of(one) < of(other) ? -1 : 0));
  const most = Math.max(...rows.map((row) => row.usd), 1e-9);
  const head = (column) => {
    const active = column.key === key;
    const next = `${column.key}.${active && direction === "down" ? "up" : "down"}`;
    return el("th", { scope: "col", class: isWide(column, key) && "wide", "aria-sort": active && (direction === "up" ? "ascending" : "descending") },
      el("button", { type: "button", class: "link", text: column.title, onclick: () => sorted(next) }));
  };
  const name = (row) => (row.name === OTHER || row.name === "" ? el("span", { text: row.name || "none" })
    : [el("button", { type: "button", class: "link", "data-narrow": row.name, text: row.name }),
      ...others.map((by) => el("button", { type: "button", class: "link split-by", "data-narrow": row.name, "data-by": by, "aria-label": `${row.name} by ${by}`, text: `by ${by}` }))]);
  return el("table", { class: "numbers" },
    el("caption", { text: `Usage by ${data.by}` }),
    el("thead", {}, el("tr", {}, ...[{ key: "name", title: data.by }, ...COLUMNS].map(head))),
    el("tbody", {}, ...(rows.length ? rows.map((row) => el("tr", { key: row.name },
      el("th", { scope: "row" }, name(row), el("span", { class: "share", "aria-hidden": "true", style: { width: percent(row.usd / most).replace(" ", "") } })),
      ...cells(row, key))) : [el("tr", {}, el("td", { colspan: COLUMNS.length + 1, class: "soft", text: "nothing in this range" }))])));
}

// Returns the table of all periods, the newest first.
export function periodTable(data, periods) {
  const series = Object.entries(data.total.series);
  const rows = periods.map((period, place) => Object.fromEntries([...series.map(([name, values]) => [name, values[place]]), ["name", period.name]])).reverse();
  return el("table", { class: "numbers" },
    el("caption", { text: `Usage by ${data.step}, the newest first` }),
    el("thead", {}, el("tr", {}, el("th", { scope: "col", text: data.step }), ...COLUMNS.map((column) => el("th", { scope: "col", class: column.wide && "wide", text: column.title })))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, el("th", { scope: "row", text: row.name }), ...cells({ ...row, cache_hit_rate: hitRate(row) })))));
}

const isWide = (column, sorted) => column.wide && column.key !== sorted;

const cells = (row, sorted) => COLUMNS.map((column) => el("td", { class: [isWide(column, sorted) && "wide", column.bad?.(row) && "bad"].filter(Boolean).join(" ") || false, title: column.hint?.(row), text: column.text(row) }));
