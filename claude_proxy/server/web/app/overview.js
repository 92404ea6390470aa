// The view "Overview": whether all is well, what to do, what runs now, what it costs, and the worst of the pool.

import { el, fill, svg } from "./dom.js";
import { linked } from "./failovers.js";
import { REPEATED, capital, count, dated, grade, limit, percent, short, time, tokens, usd, whole } from "./format.js";
import { glance } from "./glance.js";
import { bar, binding, credentialsOf, fullest, isUsed, outlook, roomOf, stateInWords, usableInWords, worstFirst } from "./pool.js";

const BRIEF = 8;
const EVENTS = 8;
// How many requests that failed over are read, to find those of the failovers; and for how long after a failover its request may
// still be missing.
const MOVED = 50;
const SETTLED_SECONDS = 30;
// How often the numbers of the history are asked for; the proxy makes them as often.
const REFRESH_MS = 60_000;
const SIGNS = {
  good: "M5 12.5l4.5 4.5L19 7.5",
  warning: "M12 6v8M12 17.5v.5",
  critical: "M7 7l10 10M17 7L7 17",
};
const PERIODS = [["today", "day", "Spent today"], ["week", "week", "This week"], ["month", "month", "This month"]];

export function mount(root, app) {
  let moved = []; // the last requests that failed over
  let newest = null; // the time of the last failover when they were requested
  let found = null; // the highlights of the history
  let failure = "";
  let ended = false;

  const show = () => { if (!ended && app.data) fill(root, view(app, moved, found, failure)); };

  async function ask() {
    try {
      found = await app.get("highlights");
      failure = "";
    } catch (error) {
      failure = error.message;
    }
    show();
  }

  // Requests them after a new failover, and for a while after that: other processes list theirs with a delay.
  async function load({ failovers: [last], now }) {
    if (!last || (last.at === newest && now - last.at > SETTLED_SECONDS)) return;
    newest = last.at;
    try {
      ({ requests: moved } = await app.get("requests", `status=failover&limit=${MOVED}`));
    } catch {
      return; // the links are to a search
    }
    show();
  }

  ask();
  const stop = app.every(REFRESH_MS, ask);
  return {
    update() {
      show();
      load(app.data);
    },
    unmount() {
      ended = true;
      stop();
    },
  };
}

function view(app, moved, found, failure) {
  const { data } = app;
  return [
    verdict(data),
    el("dl", { class: "tiles", id: "summary" }, ...tiles(app)),
    el("div", { class: "columns" },
      el("section", { "aria-labelledby": "alerts-title" }, ...alerts(app)),
      el("section", { "aria-labelledby": "glance-title" }, ...glance(app, moved, found, failure)),
      el("section", { "aria-labelledby": "worst-title" }, ...worst(app)),
      el("section", { "aria-labelledby": "failovers-title" }, ...failovers(app, moved)),
      el("section", { "aria-labelledby": "models-title" }, ...models(app))),
  ];
}

function verdict(data) {
  const { level, sentence, empty_in_words: words } = data.overview ?? { level: "good", sentence: "" };
  const { usable, credentials } = data.pool;
  const said = sentence || `${usable} of ${count(credentials, "credential")} ${credentials === 1 ? "is" : "are"} usable.`;
  const grade = sentence ? level : usable === credentials ? "good" : usable ? "warning" : "critical";
  const colour = { good: "--good-bar", warning: "--warn-bar", critical: "--bad-bar" }[grade];
  return el("div", { class: `verdict card ${grade}` },
    svg("svg", { class: "sign", viewBox: "0 0 24 24", "aria-hidden": "true" },
      svg("circle", { cx: 12, cy: 12, r: 12, style: { fill: `var(${colour})` } }),
      svg("path", { d: SIGNS[grade] ?? SIGNS.warning, fill: "none", stroke: "#fff", "stroke-width": 2.5, "stroke-linecap": "round", "stroke-linejoin": "round" })),
    el("p", { class: "sentence", id: "verdict", text: said }),
    words && el("p", { class: "soft", text: `${capital(words)}.`.replace("..", ".") }));
}

// A number with its title, and below it a bar or a sentence.
function tile(title, value, kind = "", below = "") {
  return el("div", { class: "card" }, el("dt", { text: title }), el("dd", { class: kind, text: value }),
    below && el("dd", {}, ...(typeof below === "string" ? [below] : below)));
}

function tiles({ data, admin }) {
  const { pool, running, overview } = data;
  const paused = data.credentials.filter(({ state }) => state.name === "paused").length;
  const { known, room } = roomOf(data);
  const today = sum(data.models, "today", "requests");
  const failed = sum(data.models, "today", "errors");
  const users = Object.keys(running?.users ?? {}).length;
  return [
    running && tile(admin ? "Requests now" : "Your requests now", whole.format(running.requests), "", users ? `of ${count(users, "user")}` : ""),
    tile("Free in the pool", room === null ? "–" : known ? percent(room) : "not known yet", room === null || !known ? "" : room < 0.2 ? "bad" : room < 0.5 ? "warn" : "good",
      room === null || !known ? usableInWords(data) : `mean of the fullest windows${paused ? `, without ${paused} paused` : ""}; ${pool.usable} of ${pool.credentials} usable`),
    tile(admin ? "Requests today" : "Your requests today", whole.format(today), "", failed ? [el("span", { class: "bad", text: count(failed, "error") })] : "no errors"),
    ...(overview?.money ? PERIODS.map(([name, period, title]) => money(title, overview.money[name], budgetOf(data, period, admin), data.now)) : []),
  ];
}

const sum = (rows, period, what) => rows.reduce((total, row) => total + row[period][what], 0);

// The budget that limits what is shown: of everyone for the master key, else the fullest of one's own.
function budgetOf(data, period, admin) {
  const found = data.budgets.filter((one) => one.period === period && (!admin || one.scope === "all"));
  return found.sort((a, b) => b.percent - a.percent)[0];
}

function money(title, amount, budget, now) {
  if (!budget) return tile(title, usd.format(amount));
  const share = budget.spent / budget.limit;
  return tile(title, usd.format(amount), share >= 0.75 ? grade(share) : "", [
    bar(`Budget of ${budget.scope}, ${budget.period}`, share, `${budget.percent} % of ${limit.format(budget.limit)}`),
    `${budget.percent} % of ${limit.format(budget.limit)}, resets ${time(budget.resets_at, now)}`,
  ]);
}

// Where the page has what an alert is about: the view, its parameters, and the link. The rest of the key is a name.
const CREDENTIAL = (label) => ["credentials", { show: label }, `Open ${label}`];
const POOL = () => ["credentials", {}, "Open the pool"];
const PLACES = {
  "credential-rejected": CREDENTIAL, "token-ends": CREDENTIAL, "login-expired": CREDENTIAL,
  "pool-empty": POOL, "pool-low": POOL, "no-credential": POOL,
  budget: () => ["budgets", {}, "Show what is spent"],
  "error-rate": () => ["requests", { status: "error" }, "Show those that failed"],
  "unpriced-model": (model, { overview }) => ["history", { ...(overview?.week ?? { range: "7d" }), by: "user", model }, "Who uses it"],
};

function placeOf({ key }, app) {
  const [rule, ...name] = key.split(":");
  if (!Object.hasOwn(PLACES, rule)) return false;
  const [target, parameters, text] = PLACES[rule](name.join(":"), app.data);
  return el("a", { href: app.href(target, parameters), text });
}

function alerts(app) {
  const { alerts: firing, now } = app.data;
  const rows = (firing ?? []).map((one) => el("li", { key: one.key, class: one.severity },
    el("p", { class: "small" },
      el("strong", { class: one.severity === "critical" ? "bad" : one.severity === "warning" ? "warn" : "soft", text: one.severity }), " ",
      el("time", { class: "soft", datetime: new Date(one.since * 1000).toISOString(), title: dated.format(new Date(one.since * 1000)), text: `since ${time(one.since, now)}` })),
    el("p", {}, el("strong", { text: one.text })),
    el("p", { class: "small step" }, ...withCode(one.on_page || one.action), " ", placeOf(one, app))));
  const known = (firing ?? []).filter(({ severity }) => severity === "info").length;
  const titles = [rows.length > known && `What to do (${rows.length - known})`, known && `${rows.length > known ? "good" : "Good"} to know (${known})`];
  return [
    el("h2", { id: "alerts-title", text: titles.filter(Boolean).join(", ") || "What to do" }),
    rows.length ? el("ul", { class: "alerts card" }, ...rows) : el("p", { class: "card note-none soft", text: "Nothing: no alert is firing." }),
  ];
}

// A text whose parts between backticks are commands.
const withCode = (text) => text.split("`").map((part, place) => (place % 2 ? el("code", { text: part }) : part));

function worst(app) {
  const { credentials, now } = app.data;
  const rows = worstFirst(credentialsOf(app.data)).slice(0, BRIEF).map((one) => {
    const window = one.state.name === "usable" ? fullest(one) : binding(one);
    const first = binding(one);
    const other = first !== window && first.full_at !== null && first; // not the fullest, but full before its reset
    const { words, kind } = stateInWords(one, now);
    return el("li", { key: one.label }, el("div", { class: `row ${isUsed(one) ? "" : "muted"}` },
      el("strong", { text: one.label }),
      window ? bar(`${one.label}, ${window.title}`, window.utilization, percent(window.utilization)) : el("span"),
      el("span", { class: `value ${window ? grade(window.utilization) : ""}`, text: window ? percent(window.utilization) : "–" }),
      el("span", { class: "soft" }, el("span", { class: kind, text: words }), window ? `; ${window.title}: ${outlook(one, window, now)}` : "; no window yet",
        other && `; ${other.title}: ${outlook(one, other, now)}`)));
  });
  return [
    el("div", { class: "head-line" }, el("h2", { id: "worst-title", text: "Credentials, worst first" }),
      el("a", { href: app.href("credentials"), text: `All ${credentials.length} credentials` })),
    el("ul", { class: "brief card" }, ...(rows.length ? rows : [el("li", { class: "none soft", text: "The pool has no credentials." })])),
  ];
}

function models(app) {
  const rows = app.data.models;
  const head = (text, extra = "") => el("th", { scope: "col", class: extra, text });
  return [
    el("div", { class: "head-line" }, el("h2", { id: "models-title", text: app.admin ? "Models" : "Models that you used" }),
      el("a", { href: app.href("history", { by: "model" }), text: "History by model" })),
    el("div", { class: "card scroll" }, el("table", { id: "models" },
      el("caption", { text: "Models: requests, tokens and errors today, and requests in the last 7 days" }),
      el("thead", {}, el("tr", {}, head("model"), head("today"), head("tokens"), head("errors"), head("7 days"))),
      el("tbody", {}, ...(rows.length ? rows.slice(0, EVENTS).map((row) => el("tr", { key: row.name },
        el("th", { scope: "row", text: row.name }), el("td", { text: whole.format(row.today.requests) }), el("td", { text: short.format(tokens(row.today)) }),
        el("td", { class: row.today.errors ? "bad" : "", text: whole.format(row.today.errors) }), el("td", { text: whole.format(row.week.requests) })))
        : [el("tr", {}, el("td", { colspan: 5, class: "soft", text: "nothing yet" }))])))),
    rows.length > 0 && el("p", { class: "hint", text: "7 days: today and the six days before. In the history, 7 days are the 168 hours until now." }),
    rows.some((row) => row.name === "other") && el("p", { class: "hint", text: "other: models that only a pattern of config.yaml names and that have not responded, and names beyond the limit of the list." }),
    rows.some((row) => row.today.errors) && el("p", { class: "hint", text: REPEATED }),
  ];
}

function failovers(app, moved) {
  const { failovers: found, now } = app.data;
  const rows = found.slice(0, EVENTS).map((one) => el("li", { class: "event" },
    el("time", { datetime: new Date(one.at * 1000).toISOString(), text: time(one.at, now) }),
    el("span", {}, ...linked(one, moved, app)),
    el("span", { class: "soft", text: [one.user, one.model].filter(Boolean).join(", ") })));
  return [
    el("h2", { id: "failovers-title", text: "Last failovers" }),
    el("ol", { class: "brief card", id: "failovers" }, ...(rows.length ? rows : [el("li", { class: "none soft", text: "none" })])),
  ];
}
