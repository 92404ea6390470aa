// The history: what was used in a range of time, as charts and numbers, split by a name and narrowed to names. The address has
// all of it, so Back and a bookmark show the same.

import { Chart, load } from "./charts.js";
import { el, fill, say } from "./dom.js";
import { REPEATED, count, seconds, short, tokens, usd, whole } from "./format.js";
import { chartsOf } from "./history_charts.js";
import { OTHER, periodTable, rate, splitTable } from "./history_tables.js";
import { dayBefore, daysAgo, daysOf, describe, hasHours, spanOf, today } from "./periods.js";

const REFRESH_MS = 60_000;
const DEFAULT_RANGE = "7d";
const RANGES = { "24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days", "365d": "a year" };
const NAMES = ["user", "group", "model", "credential", "project"];
const PARAMETERS = ["range", "from", "to", "step", "by", ...NAMES];
// What the menu of a filter has as "all" beside several chosen names; no name has a line feed.
const ALL = "\n";
// The families of Claude models, as their names have them.
const FAMILIES = ["opus", "sonnet", "haiku"];
// The characters that stay in the name of a file, and how many of them of the filters.
const UNSAFE = /[^\p{L}\p{N}._-]+/gu;
const MAX_FILE_NAME = 80;
// The steps of each range; the history has hours for a week.
const STEPS = { "24h": ["hour"], "7d": ["hour", "day"], "30d": ["day"], "90d": ["day", "month"], "365d": ["day", "month"] };

export function mount(root, app) {
  const head = document.createElement("div");
  const controls = document.createElement("div");
  const tiles = document.createElement("dl");
  const table = document.createElement("div");
  const charts = document.createElement("div");
  const numbers = document.createElement("div");
  const status = document.createElement("p");
  head.className = "view-head";
  controls.className = "controls";
  tiles.className = "tiles";
  charts.className = "charts";
  status.className = "note";
  status.hidden = true;
  status.setAttribute("role", "status");
  table.className = "split";
  root.append(head, controls, status, tiles, table, charts, numbers);
  const drawn = new Map(); // the charts by their title
  let shown = null; // the data, and the query that it answers
  let asked = null; // the query of the last request
  let ended = false;
  let failure = "";

  function query() {
    const found = new URLSearchParams();
    for (const name of PARAMETERS) for (const value of app.state.query.getAll(name)) found.append(name, value);
    if (!found.has("range") && !found.has("from")) found.set("range", DEFAULT_RANGE);
    return found;
  }

  async function refresh() {
    const wanted = `${query()}`;
    asked = wanted;
    root.setAttribute("aria-busy", "true");
    try {
      const data = await app.get("history", wanted);
      if (ended || asked !== wanted) return; // another view, or a newer request
      if (shown !== data) {
        shown = data;
        render();
      }
      failure = "";
    } catch (error) {
      if (ended || asked !== wanted) return;
      failure = error.status === 401 ? "" : `The history could not be loaded: ${error.message}`;
    }
    root.removeAttribute("aria-busy");
    status.hidden = !failure;
    say(status, failure);
  }

  // --- Controls --------------------------------------------------------------------------------------------------------------

  function renderControls() {
    const chosen = query();
    const names = shown?.names ?? {};
    const range = chosen.get("from") ? "" : chosen.get("range");
    const by = chosen.get("by") || "none";
    const now = shown && today(shown.zone);
    const single = { today: now, yesterday: now && dayBefore(now) };
    const filters = NAMES.flatMap((name) => chosen.getAll(name).map((value) => [name, value]));
    const from = chosen.get("from") ?? (shown ? daysOf(shown.periods[0], shown.zone)[0] : daysAgo(6));
    const to = chosen.get("to") ?? (shown ? daysOf(shown.periods.at(-1), shown.zone)[1] : daysAgo(0));
    const step = chosen.get("step") ?? shown?.step;
    const usual = Object.hasOwn(STEPS, range) ? STEPS[range] : hasHours(from, to, now ?? to) ? ["hour", "day"] : ["day", "month"];
    const steps = step && !usual.includes(step) ? [step, ...usual] : usual;
    const dates = () => {
      const [first, last] = [...controls.querySelectorAll("input[type=date]")].map((input) => input.value);
      if (first && last && first <= last) app.go({ range: null, step: null, from: first, to: last });
    };
    const date = (label, value) => el("label", {}, label, el("input", { type: "date", value, max: daysAgo(-1), onchange: dates }));
    fill(head, [
      el("h2", { text: "History" }),
      el("p", { class: "soft", text: shown ? words(shown) : "" }),
      el("button", { type: "button", text: `CSV: one row ${by === "none" ? "with the sums" : `per ${by}`}`, onclick: () => download(true) }),
      el("button", { type: "button", text: `CSV: one row per ${by === "none" ? "" : `${by} and `}${step ?? "period"}`, onclick: () => download(false) }),
    ]);
    fill(controls, [
      el("div", { class: "line" },
        el("div", { class: "choice", role: "group", "aria-label": "Range" }, ...Object.entries(RANGES).map(([key, text]) => el("button", {
          type: "button", "aria-pressed": String(key === range), text,
          onclick: () => app.go({ range: key, from: null, to: null, step: null }),
        }))),
        el("div", { class: "choice", role: "group", "aria-label": "A day" }, ...Object.entries(single).map(([text, value]) => el("button", {
          type: "button", disabled: !value, "aria-pressed": String(Boolean(value) && chosen.get("from") === value && chosen.get("to") === value), text,
          onclick: () => app.go({ range: null, step: null, from: value, to: value }),
        }))),
        date("from", from), date("to", to)),
      el("div", { class: "line" },
        picker("Split by", by, ["none", ...NAMES].map((name) => [name, name === "none" ? "nothing" : name]), (value) => app.go({ by: value === "none" ? null : value, sort: null })),
        steps.length > 1 && picker("Step", step ?? steps[0], steps.map((step) => [step, `by ${step}`]), (value) => app.go({ step: value })),
        ...NAMES.filter((name) => names[name]?.length > 0 && (name !== "user" || app.admin)).map((name) => filter(name, chosen.getAll(name), names[name]))),
      filters.length > 0 && el("div", { class: "line chips", role: "group", "aria-label": "Narrowed to" },
        ...filters.map(([name, value]) => el("button", {
          type: "button", key: `${name}:${value}`, class: "chip", "aria-label": `${name}: ${value}, remove`,
          onclick: () => app.go({ [name]: chosen.getAll(name).filter((other) => other !== value) }),
        }, el("span", { class: "soft", text: `${name}: ` }), el("span", { text: value }), el("span", { "aria-hidden": "true", text: " ✕" }))),
        filters.length > 1 && el("button", { type: "button", key: "all", class: "link", text: "Remove all", onclick: () => app.go(Object.fromEntries(NAMES.map((name) => [name, null]))) })),
    ].filter(Boolean));
  }

  // The menu of a filter: the chosen name, or how many there are; another name is added, and "all" removes them. Of models, there
  // is an entry for those of each family.
  function filter(name, chosen, names) {
    const [one = ""] = chosen;
    const several = chosen.length > 1;
    const others = names.filter((value) => !chosen.includes(value)).map((value) => [value, chosen.length ? `add ${value}` : value]);
    const families = name === "model" ? FAMILIES.map((family) => [family, names.filter((value) => value.includes(family))]).filter(([, found]) => found.length > 1 && found.some((value) => !chosen.includes(value))) : [];
    const first = several ? [["", `${chosen.length} names`], [ALL, "all"]] : [["", "all"], ...(one ? [[one, one]] : [])];
    const members = Object.fromEntries(families.map(([family, found]) => [`${ALL}${family}`, [...new Set([...chosen, ...found])]]));
    const entries = families.map(([family]) => [`${ALL}${family}`, `${chosen.length ? "add " : ""}all ${family[0].toUpperCase()}${family.slice(1)}`]);
    return picker(`Only ${name}`, several ? "" : one, [...first, ...entries, ...others],
      (value) => (value || !several) && app.go({ [name]: members[value] ?? (value && value !== ALL ? [...chosen, value] : null) }));
  }

  function picker(label, value, options, chosen) {
    return el("label", {}, label, el("select", { value, onchange: (event) => chosen(event.target.value) },
      ...options.map(([key, text]) => el("option", { value: key, text, selected: key === value }))));
  }

  // Saves the sums of each name, as the table has them, or the numbers of each period.
  async function download(sums) {
    const wanted = query();
    if (sums) wanted.set("lines", "names");
    try {
      const response = await app.fetch("history.csv", `${wanted}`);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await response.blob());
      link.download = `claude-proxy-${sums ? "sums-" : ""}${filtersInName()}${shown ? `${shown.periods[0]}-${shown.periods.at(-1)}` : "history"}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (error) {
      status.hidden = false;
      say(status, `The CSV could not be loaded: ${error.message}`);
    }
  }

  // The filters as a part of a file's name: "user-anna-model-opus-".
  function filtersInName() {
    const parts = NAMES.flatMap((name) => [...(query().has(name) ? [name] : []), ...query().getAll(name)]);
    const text = parts.join("-").replace(UNSAFE, "-").slice(0, MAX_FILE_NAME);
    return text && `${text}-`;
  }

  // --- Numbers ---------------------------------------------------------------------------------------------------------------

  function renderTiles() {
    const { total } = shown;
    const tile = (title, text, more = "", grade = "") => el("div", { class: "card" }, el("dt", { text: title }), el("dd", { class: grade, text }), more && el("dd", { text: more }));
    const share = total.requests ? total.errors / total.requests : 0;
    fill(tiles, [
      tile("requests", whole.format(total.requests)),
      tile("cost", total.unpriced && !total.usd ? "not known" : usd.format(total.usd), total.unpriced ? `${total.usd ? "and " : ""}${count(total.unpriced, "request")} without a known price` : ""),
      tile("tokens", short.format(tokens(total)), `${short.format(total.input)} fresh, ${short.format(total.cache_read)} cached, ${short.format(total.cache_write)} written, ${short.format(total.output)} output`),
      tile("cache hit rate", rate(total.cache_hit_rate)),
      tile("first byte", seconds(total.first_byte_p50), `95 % within ${seconds(total.first_byte_p95)}`),
      tile("errors", whole.format(total.errors), total.requests ? `${(100 * share).toFixed(1)} % of the requests` : "", share >= 0.05 ? "bad" : ""),
      tile("failovers", whole.format(total.failovers)),
    ]);
  }

  function narrow(name, next) {
    const { by } = shown;
    if (by === "none" || name === OTHER) return;
    app.go({ [by]: [...new Set([...app.state.query.getAll(by), name])], by: next ?? (by === "model" ? "user" : "model"), sort: null });
  }

  // By what a name of the table can be split with a click.
  const splits = () => ["user", "model"].filter((one) => one !== shown.by && (one !== "user" || app.admin));

  function renderNumbers(periods) {
    const open = Boolean(numbers.querySelector("details")?.open);
    const summary = el("summary", { text: `Numbers by ${shown.step}` });
    fill(table, [
      shown.by !== "none" && el("div", { class: "card scroll", key: "split" }, splitTable(shown, app.state.query.get("sort"), (sort) => app.go({ sort }, "history", { replace: true }), splits())),
      shown.by === "group" && el("p", { class: "hint", key: "groups", text: "A user with several groups counts in each of them, so the rows can add up to more than the total." }),
    ].filter(Boolean));
    fill(numbers, [
      el("details", { key: "periods", ontoggle: () => renderNumbers(periods) }, summary, open && el("div", { class: "card scroll" }, periodTable(shown, periods))),
      shown.total.errors > 0 && el("p", { class: "hint", key: "repeated", text: REPEATED }),
      shown.since && el("p", { class: "hint", key: "since", text: `The history begins on ${describe([shown.since], shown.since.includes("T") ? "hour" : "day", shown.zone)[0].name}.` }),
    ].filter(Boolean));
  }

  // --- Charts ----------------------------------------------------------------------------------------------------------------

  function renderCharts(periods) {
    const wanted = chartsOf(shown).map((chart) => ({ ...chart, periods }));
    const titles = new Set(wanted.map((chart) => chart.title));
    for (const [title, chart] of drawn) {
      if (titles.has(title)) continue;
      chart.remove();
      drawn.delete(title);
    }
    wanted.forEach((chart, place) => {
      if (!drawn.has(chart.title)) drawn.set(chart.title, new Chart(select));
      const { figure } = drawn.get(chart.title);
      if (charts.children[place] !== figure) charts.insertBefore(figure, charts.children[place] ?? null);
      drawn.get(chart.title).update(chart);
    });
  }

  function select(first, last) {
    const [from] = daysOf(shown.periods[first], shown.zone);
    const [, to] = daysOf(shown.periods[last], shown.zone);
    app.go({ range: null, step: null, from, to });
  }

  function render() {
    const periods = describe(shown.periods, shown.step, shown.zone);
    renderControls();
    renderTiles();
    renderCharts(periods);
    renderNumbers(periods);
  }

  const redraw = () => drawn.forEach((chart) => chart.draw(true));
  const click = (event) => {
    const button = event.target.closest("[data-narrow]");
    if (button) narrow(button.dataset.narrow, button.dataset.by);
  };
  root.addEventListener("click", click);
  window.addEventListener("themechange", redraw);
  renderControls();
  load().then(redraw, (error) => {
    status.hidden = false;
    say(status, `There are no charts: ${error.message}.`);
  });
  const stop = app.every(REFRESH_MS, refresh);
  let address = null;
  return {
    // New data of the pool changes nothing here; another address does.
    update() {
      if (address === `${app.state.query}`) return;
      address = `${app.state.query}`;
      renderControls();
      if (shown && asked === `${query()}`) renderNumbers(describe(shown.periods, shown.step, shown.zone)); // only the order is new
      else refresh();
    },
    unmount() {
      ended = true;
      stop();
      window.removeEventListener("themechange", redraw);
      drawn.forEach((chart) => chart.remove());
    },
  };
}

// Returns in words which time is shown, and in which zone.
function words({ periods, step, zone }) {
  return `${spanOf(periods, step, zone)}, by ${step}, ${zone}`;
}
