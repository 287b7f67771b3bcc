// The three panels of a home: now and today; and what else is measured there.

import { now } from "./api.js";
import { element, one, write } from "./dom.js";
import { stamp } from "./frame.js";
import { also, SPARK_MS, today, zone } from "./homemodel.js";
import { addDays, ago, clock, localDay, weekday } from "./time.js";
import { amountScale, change, DASH, number, rateScale, shown, WORDS } from "./units.js";
import { sameClock, WINDOW_MS } from "./windows.js";

const SLOTS = 60;

export function showPanel(utility, meter) {
  const panel = one(`[data-panel="${utility}"]`);
  showNow(panel, utility, meter);
  showToday(panel, utility, meter);
}

function showNow(panel, utility, meter) {
  const { last } = meter;
  const interval = (meter.channel.interval_seconds ?? 300) * 1000;
  const stale = last && now() - last.at > Math.max(3 * WINDOW_MS, 3 * interval);
  const rate = last && !stale ? last.rate : null;
  const unit = rateScale(utility, "home");
  write(one("[data-now]", panel), rate === null ? DASH : number(rate * unit.factor));
  write(one("[data-now-unit]", panel), unit.unit);
  stamp(one("[data-now-stamp]", panel), last?.at ?? null, { before: stale ? "last reading " : "", staleAfter: Math.max(60_000, 3 * interval) });
  showSpark(one("[data-spark]", panel), meter, unit);
}

function showSpark(spark, meter, unit) {
  const step = SPARK_MS / SLOTS;
  const from = now() - SPARK_MS;
  const slots = Array(SLOTS).fill(null);
  for (const point of meter.spark) {
    const i = Math.floor((point.at - from) / step);
    if (i >= 0 && i < SLOTS) slots[i] = point.rate;
  }
  const known = slots.filter((value) => value !== null);
  spark.values = bridged(slots, Math.ceil(WINDOW_MS / 2 / step) + 1);
  const words = known.length ? `between ${shown(Math.min(...known), unit)} and ${shown(Math.max(...known), unit)}` : "no data";
  spark.setAttribute("aria-label", `Last 15 minutes: ${words}`);
}

/** Short holes between points are joined, longer ones stay holes. */
function bridged(values, most) {
  const out = [...values];
  let last = null;
  values.forEach((value, i) => {
    if (value === null) return;
    if (last !== null && i - last <= most) {
      for (let k = last + 1; k < i; k++) out[k] = values[last] + ((value - values[last]) * (k - last)) / (i - last);
    }
    last = i;
  });
  return out;
}

function showToday(panel, utility, { windows }) {
  const day = localDay(zone, today());
  const until = windows.closedUntil(day, now());
  const sofar = windows.total(day.start, day.end);
  const closed = windows.total(day.start, until);
  const amounts = amountScale(utility, "home", sofar.value);
  write(one("[data-today]", panel), sofar.value === null ? DASH : number(sofar.value * amounts.factor));
  write(one("[data-today-unit]", panel), amounts.unit);
  const by = clock(zone, until);
  write(one("[data-yesterday-word]", panel), `Yesterday by ${by}`);
  write(one("[data-lastweek-word]", panel), `Last ${weekday(addDays(today(), -7)).slice(0, 3)} by ${by}`);
  for (const [name, days] of [["yesterday", -1], ["lastweek", -7]]) {
    const other = localDay(zone, addDays(today(), days));
    showCompared(one(`[data-${name}]`, panel), closed, windows.total(other.start, sameClock(zone, until, day, other)), amounts);
  }
  const here = closed.share < 1 ? `${Math.floor(100 * closed.share)} % of today's readings are here · ` : "";
  stamp(one("[data-today-stamp]", panel), windows.freshUntil, { before: `${here}up to `, staleAfter: 15 * 60_000 });
}

/** A comparison is made only where nearly all of both days is there; what is missing is said. */
function showCompared(node, mine, then, amounts) {
  if (then.value === null) {
    node.replaceChildren(element("span", { class: "muted" }, then.expected ? "no data" : DASH));
    return;
  }
  const moved = then.share >= 0.98 && mine.share >= 0.98 ? change(mine.value, then.value) : null;
  const sign = { more: "▲", less: "▼", same: "=" };
  let note = "";
  if (moved) {
    const title = moved.direction === "same" ? "the same by this time" : `today ${moved.text} ${moved.direction} by this time`;
    note = element("b", { class: `moved ${moved.direction}`, title }, ` ${sign[moved.direction]} ${moved.direction === "same" ? "" : moved.text}`);
  } else if (then.share < 0.98) {
    note = element("small", { class: "muted", title: "Some of its readings are missing, so no percentage" }, ` ${Math.floor(100 * then.share)} % there`);
  }
  node.replaceChildren(`${number(then.value * amounts.factor)} ${amounts.unit}`, note);
}

export function showAlso() {
  const facts = also.map(({ channel, windows }) => (channel.kind === "gauge" ? gauge(channel, windows) : flow(channel, windows)));
  one("[data-also-card]").hidden = !facts.length;
  one("[data-also]").replaceChildren(...facts.map(({ name, value, note, fresh }) => element("div", {}, element("dt", {}, name),
    element("dd", {}, value, element("small", {}, note), element("small", { class: "stamp" }, fresh === null ? "" : ago(now() - fresh))))));
}

function gauge(channel, windows) {
  const day = localDay(zone, today());
  const rows = [...windows.byStart.values()].filter((window) => window.start >= day.start).map((window) => window.row);
  const limits = (name) => rows.map((row) => row[name]).filter((value) => value !== null && value !== undefined).map(Number);
  const newest = windows.newest();
  const last = newest && newest.start >= day.start ? newest.row.last : null;
  const [low, high] = [Math.min(...limits("min")), Math.max(...limits("max"))];
  const note = Number.isFinite(low) && Number.isFinite(high) ? `${number(low)} to ${number(high)} today` : "no data today";
  return { name: channel.id, value: last === null || last === undefined ? DASH : `${number(Number(last))} ${channel.unit}`, note, fresh: windows.freshUntil };
}

function flow(channel, windows) {
  const day = localDay(zone, today());
  const total = windows.total(day.start, day.end).value;
  const name = channel.direction === "received" ? "Sent to the grid today" : `${WORDS[channel.utility]} ${channel.id}`;
  return { name, value: total === null ? DASH : shown(total, amountScale(channel.utility, "home", total)), note: total === null ? "no data today" : channel.id, fresh: windows.freshUntil };
}
