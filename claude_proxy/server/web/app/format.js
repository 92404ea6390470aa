// Numbers, amounts and times in the words of the browser's language. Times are Unix seconds.

const number = (options) => new Intl.NumberFormat(undefined, options);
const date = (options) => new Intl.DateTimeFormat(undefined, options);
const HALF_DAY = 12 * 3600;
const MOST_TARGETS = 3;
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

export const whole = number();
export const short = number({ notation: "compact", maximumFractionDigits: 1 });
export const usd = number({ style: "currency", currency: "USD", currencyDisplay: "narrowSymbol" });
// An amount that somebody has chosen, without cents that are 0.
export const limit = number({ style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", trailingZeroDisplay: "stripIfInteger" });
export const clock = date({ hour: "2-digit", minute: "2-digit" });
export const dated = date({ weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
export const dayOnly = date({ day: "numeric", month: "short", year: "numeric" });

const DAY = date({ day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const MONTH = date({ month: "long", year: "numeric", timeZone: "UTC" });

// The name of a period in words: an hour ("2026-11-30T14"), a day or a month, of which the day or the month is shown.
export const day = (period) => (period.length > 7 ? DAY : MONTH).format(new Date(`${period.slice(0, 10)}${period.length > 7 ? "" : "-01"}T00:00Z`));

// A time of day, with its date unless it is near.
export function time(at, now) {
  const when = new Date(at * 1000);
  if (Math.abs(at - now) >= HALF_DAY) return dated.format(when);
  const days = when.getDay() === new Date(now * 1000).getDay() ? "" : at > now ? "tomorrow " : "yesterday ";
  return `${days}${clock.format(when)}`;
}

export const percent = (fraction) => `${Math.round(100 * fraction)} %`;

const few = number({ minimumFractionDigits: 1, maximumFractionDigits: 1 });

// A duration of a request: "0.8 s", "14 s", "3 min 20 s".
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 9.95) return `${few.format(value)} s`;
  return value < 59.5 ? `${Math.round(value)} s` : span(value);
}

// A duration in its two largest units: "2 d 4 h", "3 min 20 s".
export function span(value) {
  let rest = Math.max(0, Math.round(value));
  if (rest >= 600) rest = Math.round(rest / 60) * 60;
  if (rest >= 86400) rest = Math.round(rest / 3600) * 3600;
  const start = Math.max(0, UNITS.findIndex(([, length]) => rest >= length));
  return UNITS.slice(start, start + 2).map(([unit, length]) => {
    const count = Math.floor(rest / length);
    rest -= count * length;
    return [count, unit];
  }).filter(([count], place) => count > 0 || place === 0).map(([count, unit]) => `${count} ${unit}`).join(" ");
}

// "in 2 h 5 min", "4 min ago".
export const relative = (at, now) => (at >= now ? `in ${span(at - now)}` : `${span(now - at)} ago`);

// The targets of a request's attempts: "karst → lotus"; of many, the first and the last.
export function route(attempts) {
  const targets = attempts.map((one) => one.target).filter((target, place, all) => target !== all[place - 1]);
  return (targets.length > MOST_TARGETS ? [targets[0], "…", targets.at(-1)] : targets).join(" → ");
}

export function bytes(count) {
  if (count < 1000) return `${whole.format(count)} B`;
  return count < 1e6 ? `${few.format(count / 1e3)} kB` : `${few.format(count / 1e6)} MB`;
}

export const tokens = (sums) => sums.input + sums.output + sums.cache_read + sums.cache_write;

// How errors are counted: what a view with errors says.
export const REPEATED = "Each refused request counts as an error, and Claude Code repeats a refused request, also with other models: one question can be several errors.";

// "1 request", "3 requests".
export const count = (amount, word) => `${whole.format(amount)} ${word}${amount === 1 ? "" : "s"}`;

// The grade of a share of a limit, as a class.
export const grade = (fraction) => (fraction >= 0.95 ? "bad" : fraction >= 0.75 ? "warn" : "good");

// A text of the proxy with its limits and statuses in words: "five_hour limit" is the 5-hour limit, "seven_day_opus limit" the 7-day limit of Opus.
const LIMITS = { five_hour: "5-hour limit", seven_day: "7-day limit" };
export const plain = (text) => text.replace(/\b(five_hour|seven_day)(?:_([a-z0-9]+))? limit/g, (_, name, family) => `${LIMITS[name]}${family ? ` of ${capital(family)}` : ""}`)
  .replace(/\boverloaded_error\b/g, "overloaded").replace(/^(?!.*overloaded)(.*)[(]HTTP 529[)]/, "$1(HTTP 529: overloaded)");
// The same text as the proxy has it, to be searched for.
export const raw = (text) => text.replace(/\b5-hour limit/i, "five_hour limit").replace(/\b7-day limit(?: of ([a-z0-9]+))?/i, (_, family) => `seven_day${family ? `_${family.toLowerCase()}` : ""} limit`)
  .replace(/HTTP 529: overloaded/i, "HTTP 529");
export const capital = (word) => `${word.slice(0, 1).toUpperCase()}${word.slice(1)}`;

// The time zone of the times, which is that of the browser.
export const ZONE = new Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
