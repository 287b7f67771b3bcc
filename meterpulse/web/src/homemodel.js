// What the home page knows: its meters, their windows of the days that are shown, and the newest reading of each.

import { address, get, now } from "./api.js";
import { homeOf } from "./frame.js";
import { state } from "./state.js";
import { addDays, HOUR, isoTime, localDate, localDay } from "./time.js";
import { amount, UTILITIES } from "./units.js";
import { WINDOW_MS, Windows } from "./windows.js";

export const SPARK_MS = 15 * 60_000;

/** utility → {channel, windows, hours, last: {rate, at, count, start}, spark: [{at, rate}]} */
export const meters = new Map();
/** Export and gauges: [{channel, windows}] */
export let also = [];
export let zone = "UTC";

export const today = () => localDate(zone, now());
export const date = () => (/^\d{4}-\d\d-\d\d$/.test(state.get("day") ?? "") ? state.get("day") : today());

const isMain = (channel, utility) => channel.utility === utility && (channel.direction ?? "delivered") === "delivered" && channel.kind !== "gauge";
const byPreference = (a, b) => (a.kind === "register") - (b.kind === "register") || (a.interval_seconds ?? 0) - (b.interval_seconds ?? 0);

/** The home's channels, sorted into meters and the rest; [] where there is no such home. */
export async function loadHome(customer) {
  const channels = await homeOf(customer);
  if (!channels.length) return channels;
  zone = channels[0].time_zone ?? "UTC";
  for (const utility of UTILITIES) {
    const channel = channels.filter((one) => isMain(one, utility)).sort(byPreference)[0];
    if (!channel || meters.has(utility)) continue;
    const width = (channel.interval_seconds ?? 300) > WINDOW_MS / 1000 ? HOUR : WINDOW_MS;
    meters.set(utility, { channel, windows: new Windows(width), hours: new Windows(HOUR), spark: [], last: null });
  }
  const mains = new Set([...meters.values()].map((meter) => meter.channel.id));
  if (!also.length) also = channels.filter((channel) => !mains.has(channel.id) && channel.kind !== "register").map((channel) => ({ channel, windows: new Windows() }));
  return channels;
}

/** What stands (validated, estimated, edited) or, where the reader asks for it, only what was measured. */
export const values = () => (state.get("values") === "measured" ? "measured" : "effective");
export const usage = (channel, start, end, grain) => get(address("/v1/usage", { channel, start: isoTime(start), end: isoTime(end), grain, values: values() }));

function unless404(error) {
  if (error.status === 404) return { rows: [] };
  throw error;
}

/** The spans of days with the day and the week before each, joined where they touch. */
function spansOf(dates) {
  const all = new Set(dates.flatMap((one) => [one, addDays(one, -1), addDays(one, -7)]));
  const joined = [];
  for (const { start, end } of [...all].map((one) => localDay(zone, one)).sort((a, b) => a.start - b.start)) {
    if (joined.length && joined.at(-1).end === start) joined.at(-1).end = end;
    else joined.push({ start, end });
  }
  return joined.filter(({ start }) => start <= now());
}

async function fill(channel, windows, dates) {
  await Promise.all(spansOf(dates).map(async ({ start, end }) => windows.take(await usage(channel.id, start, end, windows.grain).catch(unless404))));
}

/** The shown day and today, each with the day and the week before; in hours where 5 minutes are no longer kept. */
export async function loadDays() {
  const shown = localDay(zone, date());
  await Promise.all([...meters.values()].map(async ({ channel, windows, hours }) => {
    await fill(channel, windows, [today(), date()]);
    if (windows.width < HOUR && date() !== today() && !windows.between(shown.start, shown.end).length) await fill(channel, hours, [date()]);
  }));
  const day = localDay(zone, today());
  await Promise.all(also.map(async ({ channel, windows }) => windows.take(await usage(channel.id, day.start, day.end, "5m").catch(unless404))));
  for (const meter of meters.values()) seedSpark(meter);
}

/** The windows that show a day best: the finest that have it. */
export function windowsOf(meter, day) {
  const fine = meter.windows.between(day.start, day.end).length || !meter.hours.between(day.start, day.end).length;
  return fine ? meter.windows : meter.hours;
}

/** The last quarter of an hour from windows, until heartbeats fill it. */
function seedSpark(meter) {
  const { windows } = meter;
  if (meter.spark.length || windows.width > WINDOW_MS) return;
  const recent = [...windows.byStart.values()].filter((window) => window.start >= now() - SPARK_MS - WINDOW_MS && window.value !== null);
  for (const window of recent.sort((a, b) => a.start - b.start)) {
    const share = Math.min(1, (now() - window.start) / WINDOW_MS);
    if (share < 0.2) continue;
    for (const at of [window.start, window.start + WINDOW_MS / 2]) meter.spark.push({ at, rate: window.value * (HOUR / WINDOW_MS) / share });
  }
  const newest = windows.newest();
  if (newest) heard(meter, newest, windows.freshUntil, windows.unit);
}

/** The newest reading of a channel: its own quantity over its own interval, as a rate. */
export function heard(meter, window, fresh, unit) {
  const last = amount(window.row.last, window.row.unit ?? unit);
  const interval = meter.channel.interval_seconds ?? 300;
  const rate = last === null ? null : last * (3600 / interval);
  // so many readings end no earlier than this; where some are missing the newest is newer than said, never older
  const reached = window.start + window.count * interval * 1000;
  const known = fresh !== null && fresh < window.start + WINDOW_MS ? fresh : 0;
  const at = Math.min(Math.max(known, reached), now());
  meter.last = { rate, at, count: window.count, start: window.start };
  if (rate !== null) meter.spark = [...meter.spark.filter((point) => point.at > now() - SPARK_MS), { at, rate }];
}
