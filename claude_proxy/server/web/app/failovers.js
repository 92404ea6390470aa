// A failover in words: what was left, what responded instead and why, with a link to its request.

import { el } from "./dom.js";
import { plain } from "./format.js";

// The times of a failover and of its request's end differ by less than that.
const NEAR_SECONDS = 1;

// The attempt that a failover left, with its request and the next attempt; null if the request is not listed.
function attemptOf({ at, user, text }, moved) {
  const name = text.split(": ")[0];
  const distance = (one) => Math.abs(one.at + one.seconds - at);
  const found = moved.filter((one) => one.user === user && distance(one) < NEAR_SECONDS).map((request) => {
    const place = request.attempts.findIndex((attempt) => attempt.target === name);
    return { request, next: place < 0 ? null : request.attempts[place + 1] };
  }).filter(({ next }) => next);
  return found.sort((one, other) => distance(one.request) - distance(other.request))[0] ?? null;
}

// Returns the link and the reason; `moved` has the last requests that failed over.
export function linked(one, moved, app) {
  const [name, ...why] = one.text.split(": ");
  const attempt = attemptOf(one, moved);
  // A text about a model names the next one itself; an attempt without a credential has the model's name.
  const to = attempt && !name.includes("/") && !attempt.next.target.includes("/") ? ` → ${attempt.next.target}` : "";
  const target = attempt ? { status: "failover", open: attempt.request.id } : { q: name };
  return [el("a", { href: app.href("requests", target), text: `${name}${to}` }), why.length > 0 && `: ${plain(why.join(": "))}`];
}
