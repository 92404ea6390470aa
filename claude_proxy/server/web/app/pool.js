// What several views say about the pool's credentials: their order, their state in words, their windows.

import { el } from "./dom.js";
import { count, grade, relative, time } from "./format.js";

const RANKS = ["rejected", "expired", "rate-limited", "paused", "partly rate-limited", "usable"];
const NEVER = 1e15;
// What the last error of a rejected credential says, of those what an unpaid account has, and what is said once its cooldown has ended.
const REJECTION = /^the (account|credential) (was rejected|has a billing problem)/;
const UNPAID = /billing problem|no credit left/;
const UNTRIED = "not used since it was rejected";

// The credentials of a report. A rejected one is rejected since its alert fires: each test of it makes a new cooldown.
export const credentialsOf = ({ credentials, alerts }) => credentials.map((one) => {
  const alert = alerts?.find(({ key }) => key === `credential-rejected:${one.label}`);
  if (!alert || one.state.name !== "rejected") return one;
  const cooldowns = one.state.cooldowns.map((cooldown) => (cooldown.scope ? cooldown : { ...cooldown, since: Math.min(alert.since, cooldown.since ?? alert.since) }));
  return { ...one, state: { ...one.state, cooldowns } };
});

// The credentials that need an operator, or are fullest, first; a paused one is before those that are used.
export function worstFirst(credentials) {
  const soonest = (one) => binding(one)?.full_at ?? NEVER;
  const fullness = (one) => fullest(one)?.utilization ?? 0;
  return [...credentials].sort((a, b) => RANKS.indexOf(a.state.name) - RANKS.indexOf(b.state.name)
    || fullness(b) - fullness(a) || soonest(a) - soonest(b) || a.label.localeCompare(b.label));
}

export const fullest = (one) => one.windows.reduce((found, window) => (!found || window.utilization > found.utilization ? window : found), null);

// The window that limits a credential the most: the full one that resets last, else the one that will be full for the longest time,
// else the fullest.
export function binding(one) {
  const full = one.windows.filter(isFull);
  const filling = full.length ? full : one.windows.filter((window) => window.full_at !== null);
  const closed = (window) => window.reset - (full.length ? 0 : window.full_at);
  return filling.length ? filling.reduce((found, window) => (closed(window) > closed(found) ? window : found)) : fullest(one);
}

// Whether requests may use a credential.
export const isUsed = ({ state }) => !["rejected", "expired", "paused"].includes(state.name);

// How many credentials are usable, and what the others are: "9 of 12 usable (2 paused, 1 rejected)".
export function usableInWords({ pool, credentials }) {
  const others = RANKS.slice(0, -1).map((name) => [name, credentials.filter(({ state }) => state.name === name).length]);
  const named = others.filter(([name, amount]) => amount > 0 && name !== "partly rate-limited").map(([name, amount]) => `${amount} ${name}`);
  return `${pool.usable} of ${pool.credentials} usable${named.length ? ` (${named.join(", ")})` : ""}`;
}

// The room left in the pool, and whether it is known: without any window, only a cooldown is.
export function roomOf({ pool, credentials }) {
  const room = pool.headroom;
  return { room, known: !(room > 0 && credentials.every((one) => one.windows.length === 0)) };
}

// The state of a credential in one line, and its grade as a class.
export function stateInWords(one, now) {
  const { state } = one;
  const whole = state.cooldowns.find((cooldown) => !cooldown.scope);
  if (state.name === "paused") return { words: `paused by the operator${since(state, now)}: not used until it is resumed`, kind: "warn" };
  if (state.name === "expired") return { words: "its login has expired", kind: "bad" };
  if (whole) return { words: state.name === "rejected" ? `rejected${since(whole, now)}; ${nextTest(one, whole, now)}` : `${state.name}${since(whole, now)} until ${time(whole.until, now)}`, kind: "bad" };
  if (state.cooldowns.length === 0) return isUntried(one) ? { words: `usable, ${UNTRIED}`, kind: "warn" } : { words: "usable", kind: "good" };
  return { words: `${state.name} for ${state.cooldowns.map((cooldown) => cooldown.scope).join(", ")}`, kind: "warn" };
}

// Why a credential cannot be used now, or not for some models, and since when: the state, and what follows it. Null for a usable one.
export function unusable(one, now) {
  const { state } = one;
  if (state.name === "usable") return null;
  if (state.name === "paused") return { state: "paused", words: `${since(state, now)} by the operator` };
  if (state.name === "expired") return { state: "login expired", words: "" };
  const cooldowns = state.cooldowns.filter((cooldown) => state.name === "partly rate-limited" || !cooldown.scope);
  const words = cooldowns.map((cooldown) => `${cooldown.scope ? ` for ${cooldown.scope}` : ""}${since(cooldown, now)}: ${cooldown.reason.split(": \"")[0]}`);
  return { state: state.name === "partly rate-limited" ? "rate-limited" : state.name, words: words.join(";") };
}

// Each reason why a credential is not used, with its scope, its end and, if known, since when.
export function reasons(one, now) {
  const { state } = one;
  const closed = { paused: `paused by the operator${since(state, now)}`, expired: "its login has expired: start Claude Code in that home" }[state.name];
  const lines = state.cooldowns.map((cooldown) => {
    const what = cooldown.scope ? `rate-limited for ${cooldown.scope}` : closed ? "rate-limited" : state.name;
    const begun = cooldown.since ? `${since(cooldown, now)},` : "";
    const end = what === "rejected" ? `${begun} ${nextTest(one, cooldown, now)}` : `${begun} until ${time(cooldown.until, now)}`;
    return { what, words: `${end}: ${cooldown.reason}`, kind: cooldown.scope ? "warn" : "bad" };
  });
  if (closed) lines.unshift({ what: closed, words: "", kind: state.name === "paused" ? "warn" : "bad" });
  else if (state.cooldowns.length === 0) lines.push(isUntried(one) ? { what: "usable", words: `, ${UNTRIED}`, kind: "warn" } : { what: "usable", words: "", kind: "good" });
  else if (state.cooldowns.every((cooldown) => cooldown.scope)) lines.unshift({ what: state.name, words: "", kind: "warn" });
  return lines;
}

const since = ({ since: at }, now) => (at ? ` since ${time(at, now)}` : "");

// When a rejected credential is tried again, and what it needs to work; a new token does not cure an unpaid account.
function nextTest(one, { until, reason }, now) {
  const needed = one.login ? "login" : one.kind === "API key" ? "key" : "token";
  return `will be tried again at ${time(until, now)}${UNPAID.test(reason) ? "" : `; needs a new ${needed}`}`;
}

// Whether a credential was rejected, and has reported no window since: every good response of a plan reports its windows.
const isUntried = ({ last_error: error, windows }) => Boolean(error) && REJECTION.test(error.text) && windows.length > 0 && windows.every((window) => window.seen <= error.at);

// How a window of a credential goes on; "" while no request uses the credential.
export function forecast(one, window, now) {
  if (!isUsed(one)) return "";
  if (isFull(window)) return "full";
  return window.full_at === null ? "on track" : `full at about ${time(window.full_at, now)}`;
}

// What matters most of a window in a few words.
export const outlook = (one, window, now) => (isFull(window) || window.full_at === null ? "" : forecast(one, window, now)) || `resets ${relative(window.reset, now)}`;

// A window that is shown as 100 % is full.
const isFull = (window) => window.utilization >= 0.995;

export const resets = (window, now) => `resets ${time(window.reset, now)} (${relative(window.reset, now)})`;

// A meter of a share; `extra` are elements on it.
export function bar(label, share, words, ...extra) {
  const used = Math.min(100, Math.round(100 * share));
  return el("div", { class: "track", role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": used, "aria-valuetext": words },
    el("div", { class: `fill ${grade(share)}-bar`, style: { width: `${Math.min(100, 100 * share)}%` } }), ...extra);
}

// How far a window was ahead of the even pace, at which it would be full just at its reset, when it was reported; "" if its start
// is not known.
export function pace(window) {
  const even = evenShare(window);
  if (even === null) return "";
  const ahead = Math.round(100 * (window.utilization - even));
  return ahead === 0 ? "at the even pace" : `${count(Math.abs(ahead), "point")} ${ahead > 0 ? "above" : "below"} the even pace`;
}

export function evenShare(window) {
  if (window.opened === null || window.opened === undefined || window.reset <= window.opened) return null;
  return Math.min(1, Math.max(0, (window.seen - window.opened) / (window.reset - window.opened)));
}

