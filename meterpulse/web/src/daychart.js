// A home's day against the day before and the week before, as <mp-chart> takes it.

import { addDays, clock, dayTicks, dayWords, HOUR, localDay } from "./time.js";
import { amountScale, markOf, MARK_WORDS, number, rateScale, shown } from "./units.js";
import { binMiddles, binRates, overlaidRates, sameClock } from "./windows.js";
import { element } from "./dom.js";

const WORST_FIRST = ["Q", "S", "E", "L", "A"];

/** {chart, notes}: what the chart shows and what has to be said about it. */
export function dayChart({ utility, zone, day, windows, widthMs, now, isToday }) {
  const before = localDay(zone, addDays(day.date, -1));
  const week = localDay(zone, addDays(day.date, -7));
  const closed = windows.closedUntil(day, now);
  const mine = binRates(windows, day, widthMs, { until: closed, least: 0.5 });
  const yesterday = overlaidRates(windows, zone, before, day, widthMs);
  const lastweek = overlaidRates(windows, zone, week, day, widthMs);
  const unit = rateScale(utility, "home");
  const factor = (values) => values.map((value) => (value === null ? null : value * unit.factor));
  const bins = mine.map((_, i) => {
    const start = day.start + i * widthMs;
    const found = windows.between(start, Math.min(start + widthMs, day.end));
    const marks = found.map((window) => markOf(window.row)).filter(Boolean);
    const expected = Math.max(0, Math.floor((Math.min(start + widthMs, day.end, closed) - start) / windows.width));
    return { start, end: Math.min(start + widthMs, day.end), found, expected, mark: WORST_FIRST.find((mark) => marks.includes(mark)) ?? null, count: found.reduce((sum, window) => sum + window.count, 0) };
  });
  const gaps = windows.gaps(day.start, Math.max(day.start, closed));
  const some = windows.between(day.start, day.end).length > 0;
  const names = { today: isToday ? "Today" : dayWords(day.date), yesterday: isToday ? "Yesterday" : dayWords(before.date), lastweek: isToday ? `Last ${dayWords(week.date).slice(0, 3)}` : dayWords(week.date) };
  for (const [key, values] of Object.entries({ yesterday, lastweek })) if (values.every((value) => value === null)) names[key] += " (no data)";
  const at = (values, i) => (values[i] === null || values[i] === undefined ? null : values[i]);
  const hours = (bin) => (bin.end - bin.start) / HOUR;
  const amounts = amountScale(utility, "home");
  const chart = {
    span: (day.end - day.start) / 1000, ticks: dayTicks(zone, day, 3), x: binMiddles(day, widthMs), unit: unit.unit,
    format: (value) => `${number(value)} ${unit.unit}`,
    series: [
      { key: "today", name: names.today, style: "bars", values: factor(mine) },
      { key: "yesterday", name: names.yesterday, style: "dashed", values: factor(yesterday) },
      { key: "lastweek", name: names.lastweek, style: "dotted", values: factor(lastweek) },
    ],
    missing: some ? gaps.map((gap) => gap.map((ms) => (ms - day.start) / 1000)) : [],
    marks: markedSpans(bins, day),
    now: isToday ? (now - day.start) / 1000 : null,
    clock: (i) => `${clock(zone, bins[i].start)} – ${clock(zone, bins[i].end)}`,
    tipNote: (i) => [bins[i].mark && bins[i].mark !== "A" ? MARK_WORDS[bins[i].mark] : null, partly(bins[i])].filter(Boolean).join(", "),
    empty: some || yesterday.some((value) => value !== null) ? null : "No readings for this day.",
    sentence: sentence({ utility, zone, day, before, windows, closed, isToday, mine, bins, unit, names }),
    columns: [
      { title: "From" }, { title: `${names.today}, ${amounts.unit}`, number: true }, { title: `${names.yesterday}, ${amounts.unit}`, number: true },
      { title: `${names.lastweek}, ${amounts.unit}`, number: true }, { title: "Readings", number: true }, { title: "Quality" },
    ],
    rows: bins.filter((bin) => bin.start < now).map((bin, i) => [
      clock(zone, bin.start),
      sumOf(bin, closed, amounts),
      ...[yesterday, lastweek].map((values) => (at(values, i) === null ? "no data" : number(at(values, i) * hours(bin) * amounts.factor))),
      bin.found.length ? String(bin.count) : "0",
      bin.mark ? element("span", { class: "quality" }, element("span", { class: "mark", "data-mark": bin.mark }), MARK_WORDS[bin.mark]) : "—",
    ]).reverse(),
  };
  return { chart, notes: notesOn({ zone, day, before, week, gaps, some, names }) };
}

/** Neighbouring bins of one quality as one span, the actual ones left out. */
function markedSpans(bins, day) {
  const spans = [];
  bins.forEach((bin, i) => {
    if (!bin.mark || bin.mark === "A") return;
    const [from, to] = [(bin.start - day.start) / 1000, (bin.end - day.start) / 1000];
    if (i > 0 && bins[i - 1].mark === bin.mark) spans.at(-1).to = to;
    else spans.push({ from, to, mark: bin.mark });
  });
  return spans;
}

const partly = (bin) => (bin.found.length && bin.found.length < bin.expected ? `${bin.found.length} of ${bin.expected} intervals` : null);

/** What a bin used, for the table: its known windows, and how many those are where some are missing. */
function sumOf(bin, closed, amounts) {
  if (!bin.found.length) return bin.end > closed ? "not yet" : "no data";
  const sum = bin.found.reduce((total, window) => total + Math.round(window.value * 1e6), 0) / 1e6;
  const note = bin.end > closed ? "so far" : partly(bin);
  return `${number(sum * amounts.factor)}${note ? ` (${note})` : ""}`;
}

function sentence({ utility, zone, day, before, windows, closed, isToday, mine, bins, unit, names }) {
  const total = windows.total(day.start, day.end);
  if (total.value === null) return "";
  const amounts = amountScale(utility, "home", total.value);
  const then = windows.total(before.start, sameClock(zone, closed, day, before));
  const known = mine.map((value, i) => [value, i]).filter(([value]) => value !== null);
  const [peak, peakAt] = known.reduce((best, one) => (one[0] > best[0] ? one : best), [-1, 0]);
  const parts = [`${shown(total.value, amounts)} ${isToday ? "so far" : "on this day"}`];
  if (then.value !== null && then.share >= 0.98) parts.push(`${shown(then.value, amounts)} ${isToday ? "yesterday" : "the day before"}${isToday ? " by this time" : ""}`);
  if (peak > 0) parts.push(`highest ${shown(peak, unit)} at ${clock(zone, bins[peakAt].start)}`);
  return `${parts.join(", ")}.`;
}

function notesOn({ zone, day, before, week, gaps, some, names }) {
  const notes = [];
  const missing = gaps.reduce((sum, [from, to]) => sum + to - from, 0);
  if (some && missing) {
    const words = missing >= HOUR ? `${+(missing / HOUR).toFixed(1)} hours` : `${missing / 60_000} minutes`;
    const first = gaps.slice(0, 3).map(([from, to]) => `${clock(zone, from)}–${clock(zone, to)}`).join(", ");
    notes.push(`No readings for ${words} (${first}${gaps.length > 3 ? " and more" : ""}). They are not counted as zero.`);
  }
  for (const [one, name] of [[day, "This day"], [before, names.yesterday], [week, names.lastweek]]) {
    if (one.hours === 23) notes.push(`${name} has 23 hours: the clock goes forward, so one hour does not exist.`);
    if (one.hours === 25) notes.push(`${name} has 25 hours: the clock goes back, so one hour comes twice${one === day ? "" : " and is shown as its mean"}.`);
  }
  return notes;
}
