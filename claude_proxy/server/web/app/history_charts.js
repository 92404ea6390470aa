// What the history's charts show of the data.

import { COLOURS } from "./charts.js";
import { seconds, short, tokens, usd, whole } from "./format.js";
import { hintOf, hitRate, money, OTHER, rate } from "./history_tables.js";

// The last colour of a split is for the rest.
const CHARTED = COLOURS - 1;
// More lines than that in one chart cannot be told apart; so many names without one are listed with their numbers.
const LINES = 4;
const LISTED = 6;
const TOKENS = { output: "output", input: "fresh", cache_write: "written to the cache", cache_read: "read from the cache" };

// Returns what is charted of the data. Of a split, the first rows have a colour each, and the rest is one.
export function chartsOf(data) {
  const { total, by, rows } = data;
  const count = data.periods.length;
  const sum = `${count} ${data.step}${count === 1 ? "" : "s"}`;
  const perPeriod = (series) => series.input.map((_, place) => series.input[place] + series.output[place] + series.cache_read[place] + series.cache_write[place]);
  const hits = (series) => series.input.map((_, place) => hitRate({ input: series.input[place], cache_read: series.cache_read[place], cache_write: series.cache_write[place] }));
  const one = (name, values, all, place = 0) => ({ name, values, total: all, colour: `--c${place + 1}` });
  const charts = [];
  const add = (title, kind, format, series, more = {}) => charts.push({ title, kind, format, series, sum, ...more });
  const number = (value) => whole.format(value ?? 0);
  const cost = (value) => usd.format(value ?? 0);
  const dollars = { axis: (value) => `$${short.format(value)}` };
  // The cost of a row in words, as the table has it; `at` is the place of a period, or null for the sum.
  const costOf = (row) => (at) => {
    if (at === null) return money(row);
    return row.unpriced && !row.usd && row.series.requests[at] ? "not known" : cost(row.series.usd[at]);
  };
  if (by === "none") {
    const { series } = total;
    add("Requests", "stack", number, [one("requests", series.requests, total.requests)]);
    add("Cost", "stack", cost, [{ ...one("cost", series.usd, total.usd, 2), words: costOf(total), hint: hintOf(total) }], dollars);
    add("Tokens", "stack", (value) => short.format(value ?? 0), Object.entries(TOKENS).map(([name, text], place) => one(text, series[name], total[name], place)));
    add("Cache hit rate", "lines", rate, [one("of the input", hits(series), total.cache_hit_rate, 2)], { top: 1 });
    add("First byte", "lines", seconds, [one("half within (p50)", series.first_byte_p50, total.first_byte_p50), one("95 % within (p95)", series.first_byte_p95, total.first_byte_p95, 1)]);
    add("Errors and failovers", "lines", number, [one("errors", series.errors, total.errors, 4), one("failovers", series.failovers, total.failovers, 1)]);
    return charts;
  }
  const first = rows.filter((row) => row.name !== OTHER).slice(0, CHARTED);
  const rest = rows.filter((row) => !first.includes(row));
  const named = (row, values, all, place) => ({ ...one(row.name || "none", values, all, place), narrow: row.name || false });
  const split = (values, all) => {
    const series = first.map((row, place) => named(row, values(row.series), all(row), place));
    if (rest.length) {
      const sums = rest.map((row) => values(row.series));
      series.push({ name: rest.length === 1 ? rest[0].name || "none" : `${rest.length} others`, colour: "--rest",
        values: sums[0].map((_, place) => sums.reduce((before, row) => before + (row[place] ?? 0), 0)), total: rest.reduce((before, row) => before + all(row), 0) });
    }
    return series;
  };
  // What has no line of its own: the first ones with their numbers, and how many more there are.
  const undrawn = rows.filter((row) => !first.slice(0, LINES).includes(row));
  const without = (format, all) => {
    if (!undrawn.length) return {};
    const some = undrawn.slice(0, LISTED).map((row) => `${row.name || "none"} ${format(all(row))}`).join(", ");
    return { more: `no line: ${some}${undrawn.length > LISTED ? ` and ${undrawn.length - LISTED} more in the table` : ""}` };
  };
  const lines = (values, all) => first.slice(0, LINES).map((row, place) => named(row, values(row.series), all(row), place));
  add("Requests", "stack", number, split((series) => series.requests, (row) => row.requests));
  const others = { unpriced: rest.reduce((before, row) => before + row.unpriced, 0) };
  const costs = split((series) => series.usd, (row) => row.usd).map((one, place) => ({ ...one,
    hint: hintOf(first[place] ?? { ...others, usd: one.total }),
    words: first[place] ? costOf(first[place]) : (at) => (at === null ? money({ ...others, usd: one.total }) : cost(one.values[at])) }));
  add("Cost", "stack", cost, costs, dollars);
  add("Tokens", "stack", (value) => short.format(value ?? 0), split(perPeriod, tokens));
  add("Cache hit rate", "lines", rate, lines(hits, (row) => row.cache_hit_rate), { top: 1, ...without(rate, (row) => row.cache_hit_rate) });
  add("First byte, p50", "lines", seconds, lines((series) => series.first_byte_p50, (row) => row.first_byte_p50), without(seconds, (row) => row.first_byte_p50));
  add("First byte, p95", "lines", seconds, lines((series) => series.first_byte_p95, (row) => row.first_byte_p95), without(seconds, (row) => row.first_byte_p95));
  add("Errors", "stack", number, split((series) => series.errors, (row) => row.errors));
  add("Failovers", "stack", number, split((series) => series.failovers, (row) => row.failovers));
  return charts;
}
