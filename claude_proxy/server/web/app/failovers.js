// A failover in words: what was left, what responded instead and why, with a link to its request.

import { el } from "./dom.js";
import { plain } from "./format.js";

// The times of a failover and of its request's end differ by less than that.
const NEAR_SECONDS = 1;
// How the proxy's texts begin, after the name, where a model was left and not a credential.
const TO = "failed over to ";
const RETRIED = "retried";

// Reads a failover's text: the name of what was left, the model that was next (empty between credentials), and why.
function read(text) {
  const [name, ...rest] = text.split(": ");
  const why = rest.join(": ");
  if (why.startsWith(RETRIED)) return { name, to: name, why };
  if (!why.startsWith(TO)) return { name, to: "", why };
  const [to] = why.slice(TO.length).split(" (");
  return { name, to, why: `${name} failed over${why.slice(TO.length + to.length)}` };
}

// The place of the attempt that a failover left. An attempt has the label of its credential, or the name of its model without one:
// a model that was left is known by the next attempt, unless that has a credential, too. -1 if no attempt shows it.
const placeOf = ({ name, to }, attempts) => attempts.findIndex((one, place) => place + 1 < attempts.length
  && (to ? attempts[place + 1].target === to : one.target === name));

// The request of a failover and the place of the attempt in it; null if the request is not listed.
function requestOf({ at, user }, told, moved) {
  const distance = (one) => Math.abs(one.at + one.seconds - at);
  const near = moved.filter((one) => one.user === user && one.attempts.length > 1 && distance(one) < NEAR_SECONDS)
    .map((request) => ({ request, place: placeOf(told, request.attempts) })).filter(({ place }) => place >= 0 || told.to);
  return near.sort((one, other) => (other.place >= 0) - (one.place >= 0) || distance(one.request) - distance(other.request))[0] ?? null;
}

// Returns the link and the reason; `moved` has the last requests that failed over.
export function linked(one, moved, app) {
  const told = read(one.text);
  const { name, to, why } = told;
  const found = requestOf(one, told, moved);
  const [left, after] = found && found.place >= 0 ? found.request.attempts.slice(found.place).map(({ target }) => target) : [name, to];
  const next = (to || !after.includes("/")) && after !== left && after; // a credential without another one after it has no next
  // Without its request, those of its user that failed over at that credential.
  const target = { status: "failover", ...(found ? { open: found.request.id } : { user: one.user, q: to ? "" : name }) };
  return [el("a", { href: app.href("requests", target), text: next ? `${left} → ${next}` : left }), why && `: ${plain(why)}`];
}
