// Rows of /v1/usage as windows of one day, and what can be said about them.

import { HOUR, MINUTE, clockSeconds, instant } from "./time.js";
import { amount } from "./units.js";

export const WINDOW_MS = 5 * MINUTE;

/**
 * Windows of one width (5 minutes or an hour) by their start: {start, value (kWh or m³, null unknown), count, row}.
 * Later rows replace earlier ones.
 */
export class Windows {
  byStart = new Map();
  freshUntil = null;
  unit = null;

  constructor(width = WINDOW_MS) {
    this.width = width;
    this.grain = width === HOUR ? "1h" : "5m";
  }

  /** Take an answer or a live event in; false where nothing was for this grain. */
  take(answer) {
    if (answer.grain && answer.grain !== this.grain) return false;
    this.unit = answer.unit ?? this.unit;
    const fresh = instant(answer.fresh_until);
    if (fresh !== null) this.freshUntil = Math.max(this.freshUntil ?? 0, fresh);
    for (const row of answer.rows ?? []) {
      const start = instant(row.start);
      if (start === null) continue;
      const value = row.quantity === null || row.quantity === undefined ? null : amount(row.quantity, row.unit ?? this.unit);
      this.byStart.set(start, { start, value, count: Number(row.count ?? 0), row });
    }
    return true;
  }

  between(start, end) {
    const found = [];
    for (let at = start; at < end; at += this.width) {
      const window = this.byStart.get(at);
      if (window && window.value !== null) found.push(window);
    }
    return found;
  }

  /** {value, share}: the sum over [start, end) and how much of it has readings; value null where nothing has. */
  total(start, end) {
    const expected = Math.max(0, Math.round((end - start) / this.width));
    const found = this.between(start, end);
    if (!found.length) return { value: null, share: 0, expected };
    // whole thousandths, so that a sum does not depend on its order
    const value = found.reduce((sum, window) => sum + Math.round(window.value * 1e6), 0) / 1e6;
    return { value, share: expected ? found.length / expected : 1, expected };
  }

  /** Spans [from, to) in [start, end) without readings. */
  gaps(start, end) {
    const gaps = [];
    for (let at = start; at < end; at += this.width) {
      if (this.byStart.get(at)?.value !== undefined && this.byStart.get(at).value !== null) continue;
      if (gaps.length && gaps.at(-1)[1] === at) gaps.at(-1)[1] = at + this.width;
      else gaps.push([at, at + this.width]);
    }
    return gaps;
  }

  /**
   * Up to when windows of this day are whole, a multiple of the width. A day that is over is; on the day of today the
   * newest window is the last that may still grow, also while a slower source holds the freshness of all back.
   */
  closedUntil(day, now) {
    if (day.end <= now) return day.end;
    const reached = Math.min(now, Math.max(this.freshUntil ?? now, this.newest()?.start ?? 0));
    return Math.max(day.start, Math.floor(reached / this.width) * this.width);
  }

  newest() {
    let newest = null;
    for (const window of this.byStart.values()) if (newest === null || window.start > newest.start) newest = window;
    return newest;
  }
}

/** The instant in another day when the clock shows what it shows at `ms` in this day; ends of days correspond. */
export function sameClock(zone, ms, day, other) {
  if (ms >= day.end) return other.end;
  const seconds = clockSeconds(zone, ms);
  let at = other.start + seconds * 1000;
  at += (seconds - clockSeconds(zone, at)) * 1000; // the other day may change its clock before this hour
  return Math.max(other.start, Math.min(other.end, at));
}

/**
 * Rates per hour for the bins of a day: bin i covers [start + i × width, …). Only windows that end by `until` count, and
 * a bin of which less than the share `least` of those is there is unknown.
 */
export function binRates(windows, day, widthMs, { until = Infinity, least = 1 } = {}) {
  const rates = [];
  for (let at = day.start; at < day.end; at += widthMs) {
    const end = Math.min(at + widthMs, day.end, until);
    const expected = Math.floor((end - at) / windows.width);
    const found = expected >= 1 ? windows.between(at, end) : [];
    const enough = found.length > 0 && found.length >= expected * least;
    rates.push(enough ? found.reduce((sum, window) => sum + window.value, 0) * (HOUR / (found.length * windows.width)) : null);
  }
  return rates;
}

/**
 * Another day's rates laid over this day's bins by the clock. An hour that the other day lacks stays unknown; one that it
 * has twice is shown as its mean.
 */
export function overlaidRates(windows, zone, other, day, widthMs) {
  const byClock = new Map();
  const rates = binRates(windows, other, widthMs);
  rates.forEach((rate, i) => {
    if (rate === null) return;
    const key = clockSeconds(zone, other.start + i * widthMs);
    if (!byClock.has(key)) byClock.set(key, []);
    byClock.get(key).push(rate);
  });
  const overlaid = [];
  for (let at = day.start; at < day.end; at += widthMs) {
    const found = byClock.get(clockSeconds(zone, at));
    overlaid.push(found ? found.reduce((sum, rate) => sum + rate, 0) / found.length : null);
  }
  return overlaid;
}

/** Middles of the bins in seconds since the day's start. */
export function binMiddles(day, widthMs) {
  const middles = [];
  for (let at = day.start; at < day.end; at += widthMs) middles.push((at - day.start + Math.min(widthMs, day.end - at) / 2) / 1000);
  return middles;
}
