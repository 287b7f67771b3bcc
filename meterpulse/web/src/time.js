// Time where the meter is: days of 23, 24 or 25 hours. Instants are milliseconds since 1970 UTC; dates are "2026-11-01".

export const MINUTE = 60_000;
export const HOUR = 3_600_000;
const formats = new Map();

function format(zone) {
  if (!formats.has(zone)) {
    formats.set(zone, new Intl.DateTimeFormat("en-US", {
      timeZone: zone, hourCycle: "h23",
      year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    }));
  }
  return formats.get(zone);
}

/** The reading of the zone's clock, as if it were UTC. */
export function wall(zone, ms) {
  const part = {};
  for (const { type, value } of format(zone).formatToParts(ms)) part[type] = +value;
  return Date.UTC(part.year, part.month - 1, part.day, part.hour, part.minute, part.second);
}

/** Seconds that the clock shows since its midnight. */
export const clockSeconds = (zone, ms) => (wall(zone, ms) / 1000) % 86_400;

export const localDate = (zone, ms) => new Date(wall(zone, ms)).toISOString().slice(0, 10);

export function addDays(date, days) {
  const moved = new Date(`${date}T00:00:00Z`);
  moved.setUTCDate(moved.getUTCDate() + days);
  return moved.toISOString().slice(0, 10);
}

/** The first instant of a local day. */
export function startOfDay(zone, date) {
  const midnight = Date.parse(`${date}T00:00:00Z`);
  let start = midnight - (wall(zone, midnight) - midnight);
  start = midnight - (wall(zone, start) - start);
  // where the clock jumps over midnight the day starts at the jump
  return localDate(zone, start) < date ? start + HOUR : start;
}

/** The instant at which the zone's clock shows "2026-11-01T01:15"; the first one where it does so twice. */
export function fromWall(zone, text) {
  const shown = Date.parse(`${text}Z`);
  const first = shown - (wall(zone, shown - 12 * HOUR) - (shown - 12 * HOUR)); // by the offset that holds before
  return wall(zone, first) === shown ? first : shown - (wall(zone, first) - first);
}

/** {date, start, end, hours} of a local day. */
export function localDay(zone, date) {
  const start = startOfDay(zone, date);
  const end = startOfDay(zone, addDays(date, 1));
  return { date, start, end, hours: (end - start) / HOUR };
}

const two = (n) => String(n).padStart(2, "0");

export function clock(zone, ms, withSeconds = false) {
  const at = new Date(wall(zone, ms));
  const text = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  return withSeconds ? `${text}:${two(at.getUTCSeconds())}` : text;
}

/** "Sun 1 Nov", with the year where it is not this one. */
export function dayWords(date, today) {
  const options = { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" };
  if (today && today.slice(0, 4) !== date.slice(0, 4)) options.year = "numeric";
  return new Intl.DateTimeFormat("en-GB", options).format(new Date(`${date}T00:00:00Z`)).replace(",", "");
}

export const weekday = (date) => new Intl.DateTimeFormat("en-GB", { weekday: "long", timeZone: "UTC" }).format(new Date(`${date}T00:00:00Z`));

/** Ticks for a chart of one day, [{at: seconds since its start, label}], at round hours of its clock. */
export function dayTicks(zone, day, everyHours) {
  const ticks = [];
  for (let at = day.start; at <= day.end; at += HOUR / 2) {
    const seconds = clockSeconds(zone, at);
    const last = at === day.end;
    if (seconds % (everyHours * 3600) === 0 || last) {
      const label = last ? "24:00" : clock(zone, at);
      if (ticks.at(-1)?.label !== label) ticks.push({ at: (at - day.start) / 1000, label });
    }
  }
  return ticks;
}

export const isoTime = (ms) => new Date(ms).toISOString().replace(".000Z", "Z");

/** An instant from the API: ISO text or milliseconds; null where there is none. */
export function instant(value) {
  if (value === null || value === undefined || value === "") return null;
  const ms = typeof value === "number" ? value : Date.parse(value);
  return Number.isFinite(ms) ? ms : null;
}

export function ago(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 1.5) return "just now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} d ago`;
}
