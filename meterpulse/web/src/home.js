// One home: three utilities now and today, and a day's chart against the day before and the week before.

import "./chart.js";
import "./spark.js";
import { Live, now } from "./api.js";
import { dayChart } from "./daychart.js";
import { all, element, one, segmented, write } from "./dom.js";
import { fillLinks, onKey, search, stamp, watchConnection } from "./frame.js";
import { also, date, heard, loadDays, loadHome, meters, today, usage, values, windowsOf, zone } from "./homemodel.js";
import { showAlso, showPanel } from "./homepanels.js";
import { state } from "./state.js";
import { addDays, dayWords, HOUR, instant, isoTime, localDate, localDay, MINUTE } from "./time.js";
import { UTILITIES, WORDS } from "./units.js";

const root = one("[data-home]");
const chosen = () => (meters.has(state.get("u")) ? state.get("u") : [...meters.keys()][0]);
const stepMs = () => ({ 5: 5, 60: 60 }[state.get("step")] ?? 15) * MINUTE;

// --- loading and live ------------------------------------------------------------------------------------------------

async function reload() {
  try {
    const channels = await loadHome(root.dataset.customer);
    if (!channels.length) {
      showEmpty(element("p", {}, element("b", {}, "No home of this name."), " Ids look like H-000001. ", element("a", { href: "/home/" }, "Choose a home")));
      return;
    }
    showHead(channels);
    await loadDays();
    root.dataset.loaded = "yes";
    showAll();
  } catch (error) {
    if (error.status === undefined) throw error;
    console.warn(error.message); // the banner says when the server is gone
  }
}

const live = new Live(
  {
    usage: (event) => {
      const meter = [...meters.values()].find((one) => one.channel.id === event.channel);
      (meter ?? also.find((one) => one.channel.id === event.channel))?.windows.take(event);
      if (meter) hear(meter, event);
      schedule();
    },
    status: () => {},
  },
  (again) => again && reload(),
);

/** A reading is new where its window is newer or counts more than before. */
function hear(meter, event) {
  const row = event.rows?.at(-1);
  const start = instant(row?.start);
  if (start === null) return;
  const window = { start, count: Number(row.count ?? 0), row };
  if (meter.last === null || start > meter.last.start || (start === meter.last.start && window.count !== meter.last.count)) {
    heard(meter, window, instant(event.fresh_until), event.unit);
  }
}

let timer = null;
function schedule() {
  timer ??= setTimeout(() => {
    timer = null;
    showAll();
  }, 250);
}

// --- showing --------------------------------------------------------------------------------------------------------

function showHead(channels) {
  one("[data-empty]").hidden = true;
  write(one("[data-home-kind]"), channels[0].class === "business" ? "Business" : "Home");
  const { area } = channels[0];
  const place = `${zone.split("/").at(-1).replaceAll("_", " ")} time · ${channels.length} ${channels.length === 1 ? "channel" : "channels"}`;
  one("[data-home-where]").replaceChildren(...(area ? [element("a", { href: `/?area=${encodeURIComponent(area)}` }, area), " · "] : []), place);
  for (const utility of UTILITIES) one(`[data-panel="${utility}"]`).hidden = !meters.has(utility);
}

function showAll() {
  for (const [utility, meter] of meters) showPanel(utility, meter);
  showDay();
  showAlso();
}

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
  const windows = windowsOf(meter, day);
  const widthMs = Math.max(stepMs(), windows.width);
  markStep(String(widthMs / MINUTE));
  for (const button of all("[data-steps] button")) button.disabled = button.dataset.value * MINUTE < windows.width;
  const { chart, notes } = dayChart({ utility, zone, day, windows, widthMs, now: now(), isToday });
  if (chart.empty && root.dataset.loaded !== "yes") chart.empty = "Loading…";
  one("#home-chart").show(chart);
  if (chart.empty) offerNewest(meter);
  else showNotes(notes);
  fillLinks("home", { channel: meter.channel.id, start: isoTime(day.start), end: isoTime(day.end), grain: windows.grain, values: values() });
  one("[data-channel-link]").href = `/channel/${encodeURIComponent(meter.channel.id)}?day=${date()}`;
  stamp(one("[data-day-stamp]"), windows.freshUntil, { before: "up to " });
}

let said = "";
function showNotes(notes) {
  asked = null;
  if (said === notes.join()) return;
  said = notes.join();
  one("[data-notes]").replaceChildren(...notes.map((note) => element("li", {}, note)));
}

let asked = null;
/** A day without readings: point to the newest day that has some. */
async function offerNewest(meter) {
  const key = `${meter.channel.id} ${date()}`;
  if (asked === key || root.dataset.loaded !== "yes") return;
  showNotes([]);
  asked = key;
  const answer = await usage(meter.channel.id, 0, now() + 48 * HOUR, "1d").catch(() => ({ rows: [] }));
  const newest = instant(answer.rows?.at(-1)?.start);
  if (newest === null || asked !== key) return;
  const found = localDate(zone, newest);
  if (found === date()) return;
  const button = element("button", { type: "button", class: "linklike", ".onclick": () => state.set({ day: found }, { step: true }) }, dayWords(found, today()));
  said = key;
  one("[data-notes]").replaceChildren(element("li", {}, "The newest readings are from ", button, "."));
}

function showEmpty(...content) {
  const box = one("[data-empty]");
  box.replaceChildren(...content);
  box.hidden = false;
}

// --- wiring ---------------------------------------------------------------------------------------------------------

// the windows that are held are of the one kind or of the other, so that a change begins anew
const markValues = segmented(one("[data-values-choice]"), (value) => {
  if (value === values()) return;
  state.set({ values: value === "measured" ? value : null });
  location.reload();
});
markValues(values());
const choose = (utility) => meters.has(utility) && state.set({ u: utility });
const markUtility = segmented(one("[data-panels]"), choose);
const markStep = segmented(one("[data-steps]"), (value) => state.set({ step: value === "15" ? null : value }));
one("[data-panels]").addEventListener("click", (event) => {
  const panel = event.target.closest("[data-panel]");
  if (panel && !event.target.closest("button, a") && !getSelection()?.toString()) choose(panel.dataset.panel);
});
UTILITIES.forEach((name, i) => onKey(String(i + 1), () => choose(name)));
const go = (target) => state.set({ day: target >= today() ? null : target });
onKey("[", () => go(addDays(date(), -1)));
onKey("]", () => go(addDays(date(), 1)));
one("[data-day-before]").addEventListener("click", () => go(addDays(date(), -1)));
one("[data-day-after]").addEventListener("click", () => go(addDays(date(), 1)));
one("[data-day]").addEventListener("change", (event) => event.target.value && go(event.target.value));

let shownDate = null;
let shownUtility = null;
async function follow() {
  const utility = chosen();
  if (!utility) return;
  document.documentElement.dataset.utility = utility;
  markUtility(utility);
  for (const panel of all("[data-panel]")) panel.classList.toggle("chosen", panel.dataset.panel === utility);
  const moved = shownDate !== null && shownDate !== date();
  shownDate = date();
  if (moved) await loadDays().catch(() => {});
  showAll();
  if (shownUtility !== utility) document.dispatchEvent(new Event("themechange")); // the chart takes the utility's colour
  shownUtility = utility;
}

let midnight = null;
async function tick() {
  if (!meters.size) return;
  const turned = midnight !== null && midnight !== today();
  // meters that report less often than every 5 minutes are shown in hours, which the stream does not carry
  const slow = [...meters.values()].some((meter) => meter.windows.width === HOUR) && now() % (2 * MINUTE) < 5000;
  midnight = today();
  if (turned || slow) await loadDays().catch(() => {});
  showAll();
}

async function start() {
  watchConnection(() => live.retry());
  search();
  state.onChange(follow);
  await reload();
  if (!meters.size) return;
  await follow();
  live.open({ channel: [...meters.values(), ...also].map((item) => item.channel.id) });
  setInterval(tick, 5000);
}
start();
