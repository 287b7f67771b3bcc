// One home: three utilities now and today, and a day's chart against the day before and the week before.

import "./chart.js";
import "./spark.js";
import { address, get, Live, now } from "./api.js";
import { dayChart } from "./daychart.js";
import { all, element, one, segmented, write } from "./dom.js";
import { fillLinks, homeOf, onKey, search, stamp, watchConnection } from "./frame.js";
import { state } from "./state.js";
import { addDays, ago, clock, dayWords, HOUR, instant, isoTime, localDate, localDay, weekday } from "./time.js";
import { amount, amountScale, change, DASH, number, rateScale, shown, UTILITIES, WORDS } from "./units.js";
import { sameClock, WINDOW_MS, Windows } from "./windows.js";

const root = one("[data-home]");
const customer = root.dataset.customer;
const SPARK_MS = 15 * 60_000;
const meters = new Map(); // utility → {channel, windows, last, spark: [{at, rate}]}
let also = []; // [{channel, windows}] export, gauges
let zone = "UTC";

const chosen = () => (meters.has(state.get("u")) ? state.get("u") : [...meters.keys()][0]);
const today = () => localDate(zone, now());
const date = () => (/^\d{4}-\d\d-\d\d$/.test(state.get("day") ?? "") ? state.get("day") : today());
const grainMs = () => ({ 5: 5, 60: 60 }[state.get("step")] ?? 15) * 60_000;

// --- loading --------------------------------------------------------------------------------------------------------

async function loadHome() {
  const channels = await homeOf(customer);
  if (!channels.length) {
    showEmpty(element("p", {}, element("b", {}, "No home of this name."), " Ids look like H-000001. ", element("a", { href: "/home/" }, "Choose a home")));
    return false;
  }
  one("[data-empty]").hidden = true;
  zone = channels[0].time_zone ?? "UTC";
  const first = channels[0];
  write(one("[data-home-kind]"), first.class === "business" ? "Business" : "Home");
  const place = `${zone.split("/").at(-1).replaceAll("_", " ")} time`;
  one("[data-home-where]").replaceChildren(
    ...(first.area ? [element("a", { href: `/?area=${encodeURIComponent(first.area)}` }, first.area), " · "] : []), `${place} · ${channels.length} channels`);
  for (const utility of UTILITIES) {
    const main = channels.filter((channel) => channel.utility === utility && (channel.direction ?? "delivered") === "delivered" && channel.kind !== "gauge")
      .sort((a, b) => (a.kind === "register") - (b.kind === "register") || (a.interval_seconds ?? 0) - (b.interval_seconds ?? 0))[0];
    if (main && !meters.has(utility)) meters.set(utility, { channel: main, windows: new Windows(), spark: [], last: null });
    one(`[data-panel="${utility}"]`).hidden = !main;
  }
  const mains = new Set([...meters.values()].map((meter) => meter.channel.id));
  if (!also.length) also = channels.filter((channel) => !mains.has(channel.id) && channel.kind !== "register").map((channel) => ({ channel, windows: new Windows() }));
  root.dataset.count = meters.size;
  return true;
}

const usage = (channel, start, end, grain = "5m") => get(address("/v1/usage", { channel, start: isoTime(start), end: isoTime(end), grain }));

/** The shown day with the day and the week before it, and always today with its own, for the panels. */
async function loadDays() {
  const dates = new Set([today(), date()].flatMap((one) => [one, addDays(one, -1), addDays(one, -7)]));
  const spans = [...dates].map((one) => localDay(zone, one)).sort((a, b) => a.start - b.start);
  const joined = [];
  for (const { start, end } of spans) {
    if (joined.length && joined.at(-1).end === start) joined.at(-1).end = end;
    else joined.push({ start, end });
  }
  await Promise.all([...meters.values()].flatMap((meter) => joined.map(async ({ start, end }) => {
    if (start > now()) return;
    meter.windows.take(await usage(meter.channel.id, start, end).catch(unless404));
  })));
  const day = localDay(zone, today());
  await Promise.all(also.map(async (item) => item.windows.take(await usage(item.channel.id, day.start, day.end).catch(unless404))));
}

function unless404(error) {
  if (error.status === 404) return { rows: [] };
  throw error;
}

async function reload() {
  try {
    if (!(await loadHome())) return;
    await loadDays();
    for (const meter of meters.values()) seedSpark(meter);
    root.dataset.loaded = "yes";
    showAll();
  } catch (error) {
    if (error.status) console.warn(error.message);
  }
}

/** The last quarter of an hour from closed windows, until heartbeats fill it. */
function seedSpark(meter) {
  if (meter.spark.length) return;
  const from = now() - SPARK_MS;
  for (const window of [...meter.windows.byStart.values()].filter((w) => w.start >= from - WINDOW_MS && w.value !== null).sort((a, b) => a.start - b.start)) {
    const share = Math.min(1, (now() - window.start) / WINDOW_MS);
    if (share < 0.2) continue;
    for (const at of [window.start, window.start + WINDOW_MS / 2]) meter.spark.push({ at, rate: window.value * (HOUR / WINDOW_MS) / share });
  }
  const newest = meter.windows.newest();
  if (newest) heard(meter, newest, meter.windows.freshUntil);
}

// --- live -----------------------------------------------------------------------------------------------------------

/** The newest reading of a channel: its own quantity over its own interval, as a rate. */
function heard(meter, window, fresh) {
  const last = amount(window.row.last, window.row.unit ?? meter.windows.unit);
  const interval = meter.channel.interval_seconds ?? 300;
  const rate = last === null ? null : last * (3600 / interval);
  // so many readings end no earlier than this; where some are missing the newest is newer than said, never older
  const reached = window.start + Math.min(WINDOW_MS, window.count * interval * 1000);
  const at = Math.min(Math.max(fresh !== null && fresh < window.start + WINDOW_MS ? fresh : 0, reached), now());
  meter.last = { rate, at, count: window.count, start: window.start };
  if (rate !== null) meter.spark = [...meter.spark.filter((point) => point.at > now() - SPARK_MS), { at, rate }];
}

const live = new Live(
  {
    usage: (event) => {
      const meter = [...meters.values()].find((one) => one.channel.id === event.channel);
      const item = meter ?? also.find((one) => one.channel.id === event.channel);
      if (!item || !item.windows.take(event)) return;
      const newest = item.windows.newest();
      if (meter && newest && (meter.last === null || newest.start > meter.last.start || newest.count !== meter.last.count)) heard(meter, newest, item.windows.freshUntil);
      schedule();
    },
    status: () => {},
  },
  (again) => again && reload(),
);

let timer = null;
function schedule() {
  timer ??= setTimeout(() => {
    timer = null;
    showAll();
  }, 250);
}

// --- panels ---------------------------------------------------------------------------------------------------------

function showAll() {
  for (const [utility, meter] of meters) showPanel(utility, meter);
  showDay();
  showAlso();
}

function showPanel(utility, meter) {
  const panel = one(`[data-panel="${utility}"]`);
  const part = (name) => one(`[data-${name}]`, panel);
  const { last, windows } = meter;
  const stale = last && now() - last.at > 3 * WINDOW_MS;
  const rate = last && !stale ? last.rate : null;
  const unit = rateScale(utility, "home");
  write(part("now"), rate === null ? DASH : number(rate * unit.factor));
  write(part("now-unit"), unit.unit);
  stamp(part("now-stamp"), last?.at ?? null, { before: stale ? "last reading " : "", staleAfter: Math.max(60_000, 3000 * (meter.channel.interval_seconds ?? 300)) });
  const slots = 60;
  const step = SPARK_MS / slots;
  const from = now() - SPARK_MS;
  const slotRates = Array(slots).fill(null);
  for (const point of meter.spark) {
    const i = Math.floor((point.at - from) / step);
    if (i >= 0 && i < slots) slotRates[i] = point.rate;
  }
  const spark = part("spark");
  spark.values = bridged(slotRates, Math.ceil((WINDOW_MS / 2) / step) + 1).map((value) => (value === null ? null : value * unit.factor));
  const known = slotRates.filter((value) => value !== null);
  spark.setAttribute("aria-label", known.length ? `Last 15 minutes: between ${shown(Math.min(...known), unit)} and ${shown(Math.max(...known), unit)}` : "Last 15 minutes: no data");

  const day = localDay(zone, today());
  const until = Math.max(day.start, Math.floor(Math.min(now(), windows.freshUntil ?? now()) / WINDOW_MS) * WINDOW_MS);
  const sofar = windows.total(day.start, day.end);
  const closed = windows.total(day.start, until);
  const amounts = amountScale(utility, "home", sofar.value);
  write(part("today"), sofar.value === null ? DASH : number(sofar.value * amounts.factor));
  write(part("today-unit"), amounts.unit);
  const by = clock(zone, until);
  write(part("yesterday-word"), `Yesterday by ${by}`);
  write(part("lastweek-word"), `Last ${weekday(addDays(today(), -7)).slice(0, 3)} by ${by}`);
  for (const [name, days] of [["yesterday", -1], ["lastweek", -7]]) {
    const other = localDay(zone, addDays(today(), days));
    const then = windows.total(other.start, sameClock(zone, until, day, other));
    showCompared(part(name), closed, then, amounts);
  }
  const missing = closed.expected ? Math.round((1 - closed.share) * closed.expected) : 0;
  stamp(part("today-stamp"), windows.freshUntil, { before: missing ? `${(100 * closed.share).toFixed(0)} % of the day is here · ` : "up to ", staleAfter: 15 * 60_000 });
}

/** A comparison is made only where nearly all of both days is there; what is missing is said. */
function showCompared(node, mine, then, amounts) {
  if (then.value === null) {
    node.replaceChildren(element("span", { class: "muted" }, then.expected ? "no data" : DASH));
    return;
  }
  const whole = then.share >= 0.98 && mine.share >= 0.98;
  const moved = whole ? change(mine.value, then.value) : null;
  const sign = { more: "▲", less: "▼", same: "=" };
  node.replaceChildren(
    `${number(then.value * amounts.factor)} ${amounts.unit}`,
    moved ? element("b", { class: `moved ${moved.direction}`, title: `${moved.text} ${moved.direction === "same" ? "" : moved.direction} by the same time of day` }, ` ${sign[moved.direction]} ${moved.direction === "same" ? "" : moved.text}`)
      : element("small", { class: "muted", title: "Some readings are missing, so no percentage" }, then.share < 0.98 ? ` ${Math.floor(100 * then.share)} % there` : ""),
  );
}

/** Short holes between points are joined, longer ones stay holes. */
function bridged(values, most) {
  const out = [...values];
  let last = null;
  values.forEach((value, i) => {
    if (value === null) return;
    if (last !== null && i - last > 1 && i - last <= most) for (let k = last + 1; k < i; k++) out[k] = values[last] + ((value - values[last]) * (k - last)) / (i - last);
    last = i;
  });
  return out;
}

// --- the day --------------------------------------------------------------------------------------------------------

function showDay() {
  const utility = chosen();
  if (!utility) return;
  const meter = meters.get(utility);
  const card = one("[data-day-card]");
  card.hidden = false;
  card.dataset.utility = utility;
  const isToday = date() === today();
  write(one("[data-day-title]"), `${WORDS[utility]} · ${isToday ? "today" : dayWords(date(), today())}`);
  const input = one("[data-day]");
  if (document.activeElement !== input) input.value = date();
  input.max = today();
  one("[data-day-after]").disabled = date() >= today();
  const day = localDay(zone, date());
  const { chart, notes } = dayChart({ utility, zone, day, windows: meter.windows, widthMs: grainMs(), now: now(), isToday });
  one("#home-chart").show(chart);
  one("[data-notes]").replaceChildren(...notes.map((note) => element("li", {}, note)));
  fillLinks("home", { channel: meter.channel.id, start: isoTime(day.start), end: isoTime(day.end), grain: "5m" });
  stamp(one("[data-day-stamp]"), meter.windows.freshUntil, { before: "up to " });
  if (!chart.empty) one("[data-newest]")?.remove();
  else offerNewest(meter);
}

let asked = null;
/** A day without readings: point to the newest day that has some. */
async function offerNewest(meter) {
  const key = `${meter.channel.id} ${date()}`;
  if (asked === key || root.dataset.loaded !== "yes") return;
  asked = key;
  const answer = await usage(meter.channel.id, 0, now() + 48 * HOUR, "1d").catch(() => ({ rows: [] }));
  const newest = instant(answer.rows?.at(-1)?.start);
  if (newest === null || asked !== key) return;
  const found = localDate(zone, newest);
  if (found === date()) return;
  one("[data-notes]").append(element("li", { "data-newest": true }, "The newest readings are from ", element("button", { type: "button", class: "linklike", ".onclick": () => state.set({ day: found }, { step: true }) }, dayWords(found, today())), "."));
}

function showAlso() {
  const card = one("[data-also-card]");
  const facts = also.map(({ channel, windows }) => {
    const newest = windows.newest();
    const day = localDay(zone, today());
    if (channel.kind === "gauge") {
      const rows = windows.between(day.start, day.end).concat(newest ? [newest] : []).map((window) => window.row);
      const value = newest?.row.last ?? null;
      const low = Math.min(...rows.map((row) => Number(row.min ?? NaN)).filter(Number.isFinite));
      const high = Math.max(...rows.map((row) => Number(row.max ?? NaN)).filter(Number.isFinite));
      return [`${channel.id}`, value === null ? DASH : `${number(Number(value))} ${channel.unit}`, Number.isFinite(low) && Number.isFinite(high) ? `${number(low)} to ${number(high)} today` : "no data today", windows.freshUntil];
    }
    const total = windows.total(day.start, day.end).value;
    const name = channel.direction === "received" ? "Sent to the grid today" : `${WORDS[channel.utility]} ${channel.id}`;
    return [name, total === null ? DASH : shown(total, amountScale(channel.utility, "home", total)), total === null ? "no data today" : channel.id, windows.freshUntil];
  });
  card.hidden = !facts.length;
  one("[data-also]").replaceChildren(...facts.map(([name, value, note, fresh]) => element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, note), element("small", { class: "stamp" }, fresh === null ? "" : ago(now() - fresh))))));
}

function showEmpty(...content) {
  const box = one("[data-empty]");
  box.replaceChildren(...content);
  box.hidden = false;
}

// --- wiring ---------------------------------------------------------------------------------------------------------

const choose = (utility) => meters.has(utility) && state.set({ u: utility });
const markUtility = segmented(one("[data-panels]"), choose);
const markGrain = segmented(one("[data-grains]"), (value) => state.set({ step: value === "15" ? null : value }));
one("[data-panels]").addEventListener("click", (event) => {
  const panel = event.target.closest("[data-panel]");
  if (panel && !event.target.closest("button, a") && !getSelection()?.toString()) choose(panel.dataset.panel);
});
UTILITIES.forEach((name, i) => onKey(String(i + 1), () => choose(name)));
const go = (days) => {
  const target = addDays(date(), days);
  if (target <= today()) state.set({ day: target === today() ? null : target });
};
onKey("[", () => go(-1));
onKey("]", () => go(1));
one("[data-day-before]").addEventListener("click", () => go(-1));
one("[data-day-after]").addEventListener("click", () => go(1));
one("[data-day]").addEventListener("change", (event) => event.target.value && state.set({ day: event.target.value >= today() ? null : event.target.value }));

let shownDate = null;
async function follow() {
  const utility = chosen();
  if (!utility) return;
  document.documentElement.dataset.utility = utility;
  markUtility(utility);
  for (const panel of all("[data-panel]")) panel.classList.toggle("chosen", panel.dataset.panel === utility);
  markGrain(String(grainMs() / 60_000));
  if (shownDate !== null && shownDate !== date()) await loadDays().catch(() => {});
  shownDate = date();
  showAll();
  document.dispatchEvent(new Event("themechange")); // the chart takes the utility's colour
}

async function start() {
  watchConnection(() => live.retry());
  search();
  state.onChange(follow);
  await reload();
  if (!meters.size) return;
  await follow();
  live.open({ channel: [...meters.values(), ...also].map((item) => item.channel.id) });
}

let midnight = null;
setInterval(async () => {
  if (!meters.size) return;
  if (midnight !== null && midnight !== today()) await loadDays().catch(() => {});
  midnight = today();
  showAll();
}, 5000);
start();

