// The periods of the history in words. A day is a day of the proxy's time zone, whatever the browser's is; an hour, which the
// data names in UTC, is shown in that zone, too.

const HOUR = 3600e3;
const DAY = 24 * HOUR;
// So many days can be shown by hour, and for so many days back the history has hours.
const DAYS_BY_HOUR = 7;
const HOUR_DAYS = 8;

// Returns for each period: its full name, its short name for an axis, and how much it stands out as the start of something
// longer: 3 for the first day of a month, 2 for a Monday or a midnight, 1 for noon, else 0.
export function describe(periods, step, zone) {
  if (step === "hour") return hours(periods, zone);
  return periods.map(step === "month" ? month : day);
}

function month(period) {
  const date = new Date(`${period}-01T00:00Z`);
  return { name: formats("UTC").month.format(date), short: formats("UTC").shortMonth.format(date), rank: date.getUTCMonth() === 0 ? 3 : 0 };
}

function day(period) {
  const date = new Date(`${period}T00:00Z`);
  const rank = date.getUTCDate() === 1 ? 3 : date.getUTCDay() === 1 ? 2 : 0;
  return { name: formats("UTC").day.format(date), short: formats("UTC").shortDay.format(date), rank };
}

function hours(periods, zone) {
  const { hour, shortDay, clock, number } = formats(zone);
  return periods.map((period) => {
    const date = new Date(`${period}:00Z`);
    const of = Number(number.format(date)) % 24;
    return { name: hour.format(date), short: (of === 0 ? shortDay : clock).format(date), rank: of === 0 ? 2 : of === 12 ? 1 : 0 };
  });
}

// Returns in words the time of some periods, which ends with the last one; "now" if that has not ended.
export function spanOf(periods, step, zone, now = Date.now()) {
  const [first, last] = [periods[0], periods.at(-1)];
  if (step !== "hour") return [...new Set(describe([first, last], step, zone).map(({ name }) => name))].join(" to ");
  const end = new Date(Date.parse(`${last}:00Z`) + HOUR);
  const [from, to] = hours([first, end.toISOString().slice(0, 13)], zone);
  const isDay = from.rank === 2 && to.rank === 2 && daysOf(first, zone)[0] === daysOf(last, zone)[0];
  if (isDay && end <= now) return `${formats(zone).day.format(new Date(`${first}:00Z`))}, all day`;
  return `${from.name} to ${end > now ? "now" : to.name}`;
}

const made = new Map();

function formats(zone) {
  if (!made.has(zone)) {
    const format = (options) => new Intl.DateTimeFormat(undefined, { timeZone: zone, ...options });
    made.set(zone, {
      day: format({ weekday: "short", day: "numeric", month: "short", year: "numeric" }),
      hour: format({ weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }),
      month: format({ month: "long", year: "numeric" }),
      shortMonth: format({ month: "short", year: "2-digit" }),
      shortDay: format({ day: "numeric", month: "short" }),
      clock: format({ hour: "2-digit", minute: "2-digit" }),
      number: new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", hour12: false }),
    });
  }
  return made.get(zone);
}

// Returns the places of at most about `most` periods to be named on an axis: all; else those that stand out; else some
// Mondays or midnights; else every so many, such that one of them stands out.
export function ticks(described, most) {
  const places = described.map((_, place) => place);
  if (places.length <= most) return places;
  for (const rank of [1, 2, 3]) {
    const found = places.filter((place) => described[place].rank >= rank);
    if (found.length >= 3 && found.length <= most) return apart(found, described, places.length / most);
  }
  const mondays = places.filter((place) => described[place].rank === 2);
  if (mondays.length >= 3) return every(mondays, Math.ceil(mondays.length / most), 0);
  const stride = Math.ceil(places.length / Math.max(1, most));
  return every(places, stride, described.findIndex((one) => one.rank > 0));
}

// Returns the places that are `least` or more apart; of two that are closer, the one that stands out more, else the first.
function apart(places, described, least) {
  const kept = [];
  for (const place of places) {
    if (!kept.length || place - kept.at(-1) >= least) kept.push(place);
    else if (described[place].rank > described[kept.at(-1)].rank) kept[kept.length - 1] = place;
  }
  return kept;
}

const every = (places, stride, anchor) => places.filter((_, place) => (place - anchor) % stride === 0);

// Returns the first and the last day of a period in the proxy's time zone, as the address has them.
export function daysOf(period, zone) {
  if (period.length === 10) return [period, period];
  if (period.length === 7) {
    const [year, number] = period.split("-").map(Number);
    return [`${period}-01`, new Date(Date.UTC(year, number, 0)).toISOString().slice(0, 10)];
  }
  const day = new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" }).format(new Date(`${period}:00Z`));
  return [day, day];
}

// Returns the date of today in a time zone, and the date before another one.
export const today = (zone) => daysOf(new Date().toISOString().slice(0, 13), zone)[0];
export const dayBefore = (date) => daysAgo(1, Date.parse(date));

// Returns whether the days from one to another can be shown by hour.
export const hasHours = (first, last, now) => days(first, last) < DAYS_BY_HOUR && days(first, now) <= HOUR_DAYS;

const days = (first, last) => (Date.parse(last) - Date.parse(first)) / DAY;

// Returns the date so many days ago, by UTC.
export const daysAgo = (days, now = Date.now()) => new Date(now - days * DAY).toISOString().slice(0, 10);
