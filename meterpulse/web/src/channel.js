// One channel: what was measured and what stands, with its quality, the exceptions on it and who decided what.

import "./chart.js";
import { address, get, now } from "./api.js";
import { decide, undo } from "./deciding.js";
import { all, element, one, segmented, write } from "./dom.js";
import { fillLinks, onKey, search, stamp, watchConnection } from "./frame.js";
import { showLedger } from "./ledger.js";
import { overlayChart } from "./overlay.js";
import { plural } from "./plural.js";
import { state } from "./state.js";
import { addDays, clock, dayWords, fromWall, HOUR, instant, isoTime, localDate, startOfDay } from "./time.js";
import { number, WORDS } from "./units.js";

const root = one("[data-channel]");
const id = root.dataset.channel;
let channel = null;
let seconds = 300;
const PAST = 50; // versions that are listed

const zone = () => channel.time_zone ?? "UTC";
const today = () => localDate(zone(), now());
const date = () => (/^\d{4}-\d\d-\d\d$/.test(state.get("day") ?? "") ? state.get("day") : localDate(zone(), focus()?.[0] ?? now()));
const days = () => ({ 3: 3, 7: 7 }[state.get("days")] ?? 1);

/** {start, end} of the shown days, where the meter is. */
function span() {
  const [first, after] = [date(), addDays(date(), days())];
  return { start: startOfDay(zone(), first), end: startOfDay(zone(), after) };
}

// --- loading ------------------------------------------------------------------------------------------------------------

async function begin() {
  try {
    channel = await get(`/v1/channels/${encodeURIComponent(id)}`);
  } catch (error) {
    showEmpty(error.status === 404 ? "No channel of this name" : "The channel can't be read", error.message);
    return;
  }
  root.dataset.utility = channel.utility;
  document.documentElement.dataset.utility = channel.utility;
  const own = channel.interval_seconds ?? 300;
  const facts = [WORDS[channel.utility], channel.direction, channel.kind, channel.unit, `every ${own < 60 ? `${own} s` : `${own / 60} min`}`, zone()];
  one("[data-where]").replaceChildren(facts.filter(Boolean).join(" · "),
    ...(channel.area ? [" · ", element("a", { href: `/?area=${encodeURIComponent(channel.area)}` }, channel.area)] : []),
    ...(channel.customer ? [" · ", element("a", { href: `/home/${encodeURIComponent(channel.customer)}` }, channel.customer)] : []));
  state.onChange(follow);
  await follow();
}

/** The record of [start, end): {start, measured, effective, quality, method, known_at}; none where there is no value at all. */
async function intervals(start, end) {
  const found = await get(address("/v1/intervals", { channel: id, start: isoTime(start), end: isoTime(end) }));
  seconds = found.seconds;
  return found.rows.map((row) => ({ ...row, effective: row.quantity }));
}

/** Versions of [start, end) that another took the place of, the newest change first, each with what came after it. */
async function superseded(start, end) {
  const { rows } = await get(address("/v1/intervals", { channel: id, start: isoTime(start), end: isoTime(end), history: true }));
  return rows.map((row, at) => ({ ...row, next: rows[at + 1] })).filter((row) => row.known_until !== null)
    .sort((a, b) => b.known_until.localeCompare(a.known_until));
}

let asked = 0;
async function follow() {
  const mine = ++asked;
  const { start, end } = span();
  showHead();
  try {
    const [rows, past, waiting] = await Promise.all([
      intervals(start, end),
      superseded(start, end),
      get(address("/v1/exceptions", { channel: id, start: isoTime(start), end: isoTime(end), limit: 100, sort: "newest" })),
    ]);
    if (mine !== asked) return;
    one("[data-empty]").hidden = true;
    showChart(rows, start, end);
    showExceptions(waiting.exceptions);
    showPast(past);
  } catch (error) {
    if (mine === asked) showEmpty("These days can't be shown", error.message);
  }
  showLedger(takeBack, id);
}

// --- showing ------------------------------------------------------------------------------------------------------------

function showHead() {
  const last = addDays(date(), days() - 1);
  write(one("[data-day-title]"), days() === 1 ? dayWords(date(), today()) : `${dayWords(date(), today())} – ${dayWords(last, today())}`);
  const input = one("[data-day]");
  if (document.activeElement !== input) input.value = date();
  input.max = today();
  one("[data-day-after]").disabled = date() >= today();
  markDays(String(days()));
}

function showChart(rows, start, end) {
  const exception = focus();
  one("#channel-chart").show(overlayChart({ zone: zone(), start, end, seconds, unit: channel.unit, rows, band: exception }));
  fillLinks("channel", { channel: id, start: isoTime(start), end: isoTime(end) }, "/v1/intervals");
  const last = rows.findLast((row) => row.effective !== null);
  stamp(one("[data-day-stamp]"), last ? instant(last.start) + seconds * 1000 : null, { before: "values until ", staleAfter: Infinity });
  const [from, until] = exception ?? [start, Math.min(end, start + HOUR)];
  const text = (ms) => `${localDate(zone(), ms)}T${clock(zone(), ms)}`;
  for (const [name, ms] of [["from", from], ["until", until]]) {
    const field = one(`[data-${name}]`);
    field.step = seconds;
    if (document.activeElement !== field) field.value = text(ms);
  }
}

/** [from, to] in ms that the address points to. */
function focus() {
  const found = [instant(state.get("from")), instant(state.get("to"))];
  return found.every((ms) => ms !== null) ? found : null;
}

function showExceptions(rows) {
  const at = (text) => `${localDate(zone(), instant(text)).slice(5)} ${clock(zone(), instant(text))}`;
  one("[data-exceptions]").replaceChildren(rows.length ? element("ol", { class: "events" }, ...rows.map((row) => element("li", {},
    element("button", { type: "button", class: "linklike", ".onclick": () => state.set({ from: row.start, to: row.end }) }, `${at(row.start)} – ${at(row.end)}`),
    ` ${row.title} (${row.rule}): ${row.words} `, element("a", { href: `/worklist?state=all&channel=${encodeURIComponent(id)}&n=${row.number}` }, row.state === "resolved" ? `resolved: ${row.resolution}` : "waits"))))
    : element("p", { class: "chart-empty" }, "No rule complained about these days."));
}

function showPast(rows) {
  const at = (text) => `${localDate(zone(), instant(text)).slice(5)} ${clock(zone(), instant(text))}`;
  const value = (row) => (row.quantity === null ? "no value" : `${number(row.quantity)} ${row.unit}`);
  const how = (row) => (row.author ? `${row.author}: ${row.reason}` : row.method || row.quality || "unknown");
  const said = rows.slice(0, PAST).map((row) => element("li", {},
    element("button", { type: "button", class: "linklike", ".onclick": () => state.set({ from: row.start, to: isoTime(instant(row.start) + row.seconds * 1000) }) }, at(row.start)),
    ` ${value(row)} (${how(row)}) became ${row.next?.start === row.start ? `${value(row.next)} (${how(row.next)})` : "another value"}`,
    element("time", { datetime: row.known_until }, at(row.known_until))));
  const more = rows.length > PAST ? [element("li", {}, `and ${plural(rows.length - PAST, "older version")}`)] : [];
  one("[data-past]").replaceChildren(rows.length ? element("ol", { class: "events" }, ...said, ...more)
    : element("p", { class: "chart-empty" }, "Every value of these days is the first that was recorded."));
}

function showEmpty(title, text) {
  one("[data-empty]").replaceChildren(element("p", {}, element("b", {}, title)), element("p", {}, text));
  one("[data-empty]").hidden = false;
}

// --- correcting ---------------------------------------------------------------------------------------------------------

async function correct(action) {
  const [from, until] = ["from", "until"].map((name) => fromWall(zone(), one(`[data-${name}]`).value));
  if (!(until > from)) return one("[data-until]").focus();
  const name = `${id}, ${clock(zone(), from)} – ${clock(zone(), until)}`;
  const answer = await decide(action, { channel: id, start: isoTime(from), end: isoTime(until) }, name);
  if (answer) await follow();
}

async function takeBack(change, name) {
  if (await undo(change, name)) await follow();
}

for (const button of all("[data-act]")) button.addEventListener("click", () => correct(button.dataset.act));

// --- wiring -------------------------------------------------------------------------------------------------------------

const markDays = segmented(one("[data-days]"), (value) => state.set({ days: value === "1" ? null : value }));
const go = (target) => channel && state.set({ day: target > today() ? today() : target, from: null, to: null });
const step = (by) => go(addDays(date(), by * days()));
onKey("[", () => step(-1));
onKey("]", () => step(1));
one("[data-day-before]").addEventListener("click", () => step(-1));
one("[data-day-after]").addEventListener("click", () => step(1));
one("[data-day]").addEventListener("change", (event) => event.target.value && go(event.target.value));
watchConnection(() => location.reload());
search();
begin();
