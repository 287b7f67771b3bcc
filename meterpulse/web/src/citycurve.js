// An area's day against the day before, as <mp-chart> takes it.

import { connection, now } from "./api.js";
import { model, utility } from "./citymodel.js";
import { clock, dayTicks, HOUR, isoTime } from "./time.js";
import { change, number, rateScale, shown } from "./units.js";
import { binMiddles, binRates, overlaidRates, WINDOW_MS } from "./windows.js";

/** The parameters of the links under an area's chart: its day. */
export function linkSpan(area) {
  const day = model.today();
  return { area, utility: utility(), start: isoTime(day.start), end: isoTime(day.end), grain: "5m" };
}

export function curve(taken, area, name) {
  const { zone } = model;
  const day = model.today();
  const closed = taken.closedUntil(day, now());
  const today = binRates(taken, day, WINDOW_MS, { until: closed });
  const yesterday = overlaidRates(taken, zone, model.dayBefore(day), day, WINDOW_MS);
  const rate = area === undefined ? null : model.rateOf(area);
  const unit = rateScale(utility(), "area", Math.max(0, rate ?? 0, ...today, ...yesterday));
  const scaled = (value) => (value === null ? null : value * unit.factor);
  const seconds = (ms) => (ms - day.start) / 1000;
  const first = taken.between(day.start, day.end)[0]?.start ?? day.start;
  const at = (model.load?.start ?? 0) + ((model.load?.seconds ?? 60) * 1000) / 2;
  return {
    span: seconds(day.end), ticks: dayTicks(zone, day, 3), x: binMiddles(day, WINDOW_MS), unit: unit.unit,
    format: (value) => `${number(value)} ${unit.unit}`,
    series: [
      { key: "today", name: "Today", style: "area", values: today.map(scaled) },
      { key: "yesterday", name: "Yesterday", style: "dashed", values: yesterday.map(scaled) },
    ],
    missing: taken.byStart.size ? taken.gaps(first, Math.max(first, closed)).map((gap) => gap.map(seconds)) : [],
    now: seconds(now()),
    point: rate !== null && at >= day.start && at < day.end ? { at: seconds(at), value: scaled(rate) } : null,
    clock: (i) => `${clock(zone, day.start + i * WINDOW_MS)} – ${clock(zone, day.start + (i + 1) * WINDOW_MS)}`,
    empty: emptiness(taken),
    sentence: sentence(name, { day, zone, closed, today, yesterday, unit }),
    columns: [{ title: "From" }, { title: `Today, ${unit.unit}`, number: true }, { title: `Yesterday, ${unit.unit}`, number: true }],
    rows: hours({ day, zone, today, yesterday, scaled }),
  };
}

function emptiness(taken) {
  if (taken.byStart.size) return null;
  if (connection.state === "connecting") return "Loading…";
  return model.areas.size ? "No readings today or yesterday yet. The curve starts with the first 5 whole minutes." : "The curve starts with the first readings.";
}

/** One row per hour: the mean of what is known, the newest first. */
function hours({ day, zone, today, yesterday, scaled }) {
  const perHour = HOUR / WINDOW_MS;
  const mean = (values, from) => {
    const known = values.slice(from, from + perHour).filter((value) => value !== null);
    return known.length ? number(scaled(known.reduce((sum, value) => sum + value, 0) / known.length)) : "no data";
  };
  const rows = [];
  for (let i = 0; i < today.length && day.start + i * WINDOW_MS < now(); i += perHour) {
    rows.unshift([clock(zone, day.start + i * WINDOW_MS), mean(today, i), mean(yesterday, i)]);
  }
  return rows;
}

function sentence(name, { day, zone, closed, today, yesterday, unit }) {
  const peak = Math.max(-1, ...today.filter((value) => value !== null));
  if (peak < 0) return "";
  // only windows that both days have, so that like is compared with like
  const both = today.map((_, i) => i).filter((i) => day.start + (i + 1) * WINDOW_MS <= closed && today[i] !== null && yesterday[i] !== null);
  const sum = (values) => both.reduce((total, i) => total + values[i], 0);
  const moved = both.length >= 6 ? change(sum(today), sum(yesterday)) : null;
  const span = both.length >= 24 ? `${+(both.length / 12).toFixed(1)} hours` : `${both.length * 5} minutes`;
  const against = !moved ? "" : ` ${moved.direction === "same" ? "As much as" : `${moved.text} ${moved.direction} than`} yesterday over the same ${span}.`;
  return `${name}: highest so far ${shown(peak, unit)} at ${clock(zone, day.start + today.indexOf(peak) * WINDOW_MS)}.${against}`;
}
