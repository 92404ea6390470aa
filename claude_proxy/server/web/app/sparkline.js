// The course of a window as a small chart: what is used of it over time, against the even pace. Its words are beside it.

import { svg } from "./dom.js";

const WIDTH = 200;
const HEIGHT = 40;

// `course` is a list of [time, utilization], oldest first; the window is from `opened` to `reset`. Returns null if it is too short.
export function sparkline({ course, opened, reset, utilization, seen }, now, kind) {
  if (!course || opened === null || opened === undefined || reset <= opened) return null;
  const x = (at) => Math.round(10 * WIDTH * Math.min(1, Math.max(0, (at - opened) / (reset - opened)))) / 10;
  const y = (share) => Math.round(10 * (HEIGHT - 1 - (HEIGHT - 2) * Math.min(1, Math.max(0, share)))) / 10;
  const points = course.filter(([at]) => at >= opened && at <= now);
  if (points.length === 0) return null;
  const last = Math.max(points.at(-1)[0], Math.min(now, seen ?? now));
  // A value holds until the next one.
  const steps = points.map(([at, share], place) => (place === 0 ? `M${x(at)} ${y(share)}` : `H${x(at)}V${y(share)}`)).join("");
  const line = `${steps}H${x(last)}V${y(utilization)}`;
  return svg("svg", { class: `sparkline ${kind}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "even", d: `M0 ${y(0)}L${WIDTH} ${y(1)}` }),
    svg("path", { class: "area", d: `${line}V${y(0)}H${x(points[0][0])}Z` }),
    svg("path", { class: "course", d: line }),
    svg("path", { class: "now", d: `M${x(now)} 0V${HEIGHT}` }));
}
