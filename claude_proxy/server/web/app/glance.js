// "At a glance": what operators ask every day, one line each, with a link to the view that shows all of it.

import { el } from "./dom.js";
import { linked } from "./failovers.js";
import { count, limit, percent, relative, seconds, time, usd, whole } from "./format.js";
import { credentialsOf, forecast, isUsed, unusable, worstFirst } from "./pool.js";

const WEEK = "7d";
// So many credentials that cannot be used are named.
const NAMED = 4;

// Returns the title and the lines. `moved` has the last requests that failed over, `found` the highlights of the history, null
// until they are there; `failure` is why they are not.
export function glance(app, moved, found, failure) {
  const history = (key, title, words) => {
    if (failure && !found) return null;
    return line(key, title, found ? words() : [el("span", { class: "soft", text: "…" })]);
  };
  const own = (title) => (app.admin ? title : `Your ${title.slice(0, 1).toLowerCase()}${title.slice(1)}`);
  const lines = [
    closed(app), week(app), budget(app),
    history("model", found?.yesterday ? `${app.admin ? "Most" : "Your"} ${found.yesterday.model} yesterday` : "Yesterday", () => yesterday(app, found.yesterday)),
    history("cache", own("Cache hits, 7 days"), () => cache(app, found.week)),
    history("first", own("First byte, 7 days"), () => slowest(app, found.week)),
    failover(app, moved),
    history("project", own("Project, 30 days"), () => project(app, found.project)),
    failure && line("failure", "History", [el("span", { class: "bad", text: `not available: ${failure}` })]),
  ];
  return [el("h2", { id: "glance-title", text: "At a glance" }), el("dl", { class: "glance card", id: "glance", "aria-busy": !found && !failure && "true" }, ...lines)];
}

const line = (key, title, words) => el("div", { key, "data-line": key }, el("dt", { text: title }), el("dd", {}, ...words));
const link = (app, text, view, parameters = {}) => el("a", { href: app.href(view, parameters), text });
const nothing = (text) => [el("span", { class: "soft", text })];

// An amount; it is "at least" that if some of its requests have no known price. `all` also says how many these are.
const money = ({ usd: amount, unpriced }) => (unpriced && !amount ? "an unknown amount" : `${unpriced ? "at least " : ""}${usd.format(amount)}`);
const all = (sums) => `${money(sums)}${sums.unpriced ? ` (${count(sums.unpriced, "request")} without a price)` : ""}`;

function closed(app) {
  const { credentials, now } = app.data;
  const found = worstFirst(credentialsOf(app.data)).map((one) => ({ one, why: unusable(one, now) })).filter(({ why }) => why);
  if (!credentials.length) return null;
  const words = found.slice(0, NAMED).map(({ one, why }) => el("span", { class: "item", key: one.label }, link(app, one.label, "credentials", { show: one.label }), ` ${why.state}${why.words}`));
  const more = found.length > NAMED && link(app, `${found.length - NAMED} more`, "credentials");
  return line("closed", "Cannot be used now", found.length ? [...words, more] : nothing("none: every credential is usable"));
}

// The credential with the fullest week, of those that are used.
function week(app) {
  const { credentials, now } = app.data;
  const found = credentials.filter(isUsed).flatMap((one) => one.windows.filter(({ name, reset }) => name === WEEK && reset > now).map((window) => ({ one, window })))
    .sort((a, b) => b.window.utilization - a.window.utilization)[0];
  if (!found) return null;
  const { one, window } = found;
  const outcome = forecast(one, window, now);
  const lasts = outcome === "on track";
  const course = lasts ? "lasts until then at this pace" : outcome === "full" ? "full until then" : `will not last: ${outcome}`;
  return line("week", "Fullest week (all models)", [link(app, one.label, "credentials", { show: one.label }),
    ` ${percent(window.utilization)}, resets ${time(window.reset, now)} (${relative(window.reset, now)}); `, el("span", { class: lasts ? "" : "bad", text: course })]);
}

function budget(app) {
  const { budgets, now } = app.data;
  const [first] = [...budgets].sort((a, b) => b.spent / b.limit - a.spent / a.limit);
  if (!first) return null;
  return line("budget", "Nearest budget", [link(app, `${first.scope}, ${first.period}`, "budgets"),
    ` ${first.percent} % of ${limit.format(first.limit)}, resets ${time(first.resets_at, now)}`]);
}

function yesterday(app, found) {
  if (!found) return nothing("nothing was used");
  const { day, models, user } = found;
  const target = { from: day, to: day, by: "user", model: models };
  if (!app.admin || !user) return [link(app, all(found), "history", target), ` for ${count(found.requests, "request")}`];
  return [link(app, user.name, "history", target), ` ${money(user)} of ${all(found)}, ${whole.format(user.requests)} of ${count(found.requests, "request")}`];
}

function cache(app, found) {
  if (!found || found.cache_hit_rate === null) return nothing("nothing was used");
  const { lowest } = found;
  return [link(app, percent(found.cache_hit_rate), "history", { range: "7d", by: "model", sort: "cache_hit_rate.up" }),
    lowest && ` of the input; the worst is ${lowest.name}, ${percent(lowest.cache_hit_rate)}`];
}

function slowest(app, found) {
  if (!found?.slowest) return nothing("nothing was used");
  const { slowest: { name, first_byte_p95: p95 }, first_byte_p95: all } = found;
  return [link(app, name, "history", { range: "7d", by: "model", sort: "first_byte_p95.down" }),
    ` is slowest, p95 ${seconds(p95)}; all models ${seconds(all)}`];
}

function failover(app, moved) {
  const { failovers: [last], now } = app.data;
  if (!last) return line("failover", "Last failover", nothing("none"));
  return line("failover", "Last failover", [`${time(last.at, now)}${last.user ? `, ${last.user}` : ""}: `, ...linked(last, moved, app)]);
}

function project(app, found) {
  if (!found) return nothing("no request named a project");
  const { name, user } = found;
  return [link(app, name, "history", { range: "30d", by: "user", project: name }), ` cost most: ${all(found)}`,
    app.admin && user && `, ${user.name} ${money(user)} of it`, "; ", link(app, "all projects", "history", { range: "30d", by: "project" })];
}
