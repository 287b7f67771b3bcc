// Speed against batch: by how much a rebuild changed what had been answered, a day at a time, and why.

import { address, get, now } from "./api.js";
import { all, element, one, segmented, table, write } from "./dom.js";
import { onKey, search, stamp, watchConnection } from "./frame.js";
import { plural } from "./plural.js";
import { state } from "./state.js";
import { addDays, dayWords } from "./time.js";
import { change, count, DASH, number, UTILITIES, WORDS } from "./units.js";

const SPAN = 30; // days
const MOST_DAYS = 92;
const MOST_ROWS = 5000;
const SHOWN = 100;
const CAUSES = {
  late: "readings came after speed had let their window go",
  duplicate: "an import brought a reading before the live one",
  revision: "a reading was replaced by a newer revision",
  estimate: "a missing or doubted value was estimated",
  edit: "a person decided about a value",
  "rule change": "other rules judged the values",
  recovery: "the day was built again because something was damaged",
  unexplained: "none of these: one of the layers is wrong",
};

const today = () => new Date(now()).toISOString().slice(0, 10);
const isDay = (text) => /^\d{4}-\d\d-\d\d$/.test(text ?? "");
const end = () => (isDay(state.get("end")) ? state.get("end") : today());
const start = () => {
  const given = isDay(state.get("start")) ? state.get("start") : addDays(end(), -SPAN + 1);
  return given > end() ? end() : given < addDays(end(), -MOST_DAYS + 1) ? addDays(end(), -MOST_DAYS + 1) : given;
};
const utility = () => (UTILITIES.includes(state.get("u")) ? state.get("u") : "electricity");
const day = () => (isDay(state.get("day")) ? state.get("day") : null);

let asked = 0;
async function load() {
  const mine = ++asked;
  const area = state.get("area");
  try {
    const [every, drilled] = await Promise.all([
      get(address("/v1/differences", { start: start(), end: end(), area, limit: 1 })),
      get(address("/v1/differences", { ...parameters(), limit: MOST_ROWS })),
    ]);
    if (mine !== asked) return;
    one("[data-empty]").hidden = true;
    one("[data-body]").hidden = false;
    show(every, drilled);
  } catch (error) {
    if (mine !== asked) return;
    one("[data-empty]").replaceChildren(element("p", {}, element("b", {}, "The differences can't be read")), element("p", {}, error.message));
    one("[data-empty]").hidden = false;
    one("[data-body]").hidden = true;
  }
}

const parameters = () => ({
  ...(day() ? { day: day() } : { start: start(), end: end() }),
  utility: utility(), area: state.get("area"), cause: state.get("cause"),
});

// --- sums ---------------------------------------------------------------------------------------------------------------

/** {difference, batch, causes, windows} of totals; batch null where one of them is unknown. */
function sum(totals) {
  const found = { difference: 0, batch: 0, causes: {}, windows: {} };
  for (const total of totals) {
    found.difference += Number(total.difference);
    found.batch = found.batch === null || total.batch === null ? null : found.batch + Number(total.batch);
    for (const [cause, moved] of Object.entries(total.causes)) found.causes[cause] = (found.causes[cause] ?? 0) + Number(moved);
    for (const [cause, windows] of Object.entries(total.windows)) found.windows[cause] = (found.windows[cause] ?? 0) + windows;
  }
  return found;
}

const shareText = ({ difference, batch }) => (batch ? `${(100 * difference / batch).toPrecision(2)} %` : DASH);
const windowsOf = (found) => Object.values(found.windows).reduce((total, n) => total + n, 0);

function groups(totals, name) {
  const by = new Map();
  for (const total of totals) by.set(total[name], [...(by.get(total[name]) ?? []), total]);
  return by;
}

// --- showing ------------------------------------------------------------------------------------------------------------

function show(every, drilled) {
  const mine = every.totals.filter((total) => total.utility === utility());
  const unit = mine[0]?.unit ?? "";
  const found = sum(mine);
  document.documentElement.dataset.utility = utility();
  markUtility(utility());
  showAlarm(every);
  write(one("[data-sentence]"), windowsOf(found)
    ? `Speed and batch differ by ${number(found.difference)} ${unit} of ${WORDS[utility()].toLowerCase()}, ${shareText(found)} of what the areas concerned used on those days.`
    : `No difference between speed and batch is known about ${WORDS[utility()].toLowerCase()} from ${start()} to ${end()}. Only days that batch has built are compared.`);
  showCauses(found, unit);
  showDays(groups(mine, "day"), unit);
  showAreas(groups(day() ? mine.filter((total) => total.day === day()) : mine, "area"), unit);
  showChannels(drilled, unit);
  for (const field of all("[data-filter]")) if (document.activeElement !== field) field.value = { start: start(), end: end(), area: state.get("area", "") }[field.dataset.filter];
  for (const link of all("[data-drill] [data-as]")) link.href = address(`/v1/differences${{ csv: ".csv", json: "", parquet: ".parquet" }[link.dataset.as]}`, parameters());
  stamp(one("[data-stamp]"), now(), { before: "as of " });
}

function showAlarm({ unexplained, totals }) {
  const box = one("[data-alarm]");
  box.hidden = !unexplained;
  if (!unexplained) return;
  const of = [...new Set(totals.filter((total) => total.windows.unexplained).map((total) => total.utility))];
  box.replaceChildren(element("b", {}, `${plural(unexplained, "window")} without an explanation`),
    ` (${of.join(", ")}). One of the layers is wrong; this is a defect, and worth a report. `,
    element("button", { type: "button", class: "linklike", ".onclick": () => state.set({ u: of[0] ?? null, cause: "unexplained", day: null }) }, "Show them"));
}

function showCauses(found, unit) {
  const wanted = state.get("cause");
  const causes = Object.keys(CAUSES).filter((cause) => found.windows[cause] || cause === wanted || cause === "unexplained");
  one("[data-causes]").replaceChildren(...causes.map((cause) =>
    element("button", { type: "button", class: "facet cause", "data-cause": cause, "aria-pressed": String(cause === wanted), title: CAUSES[cause], ".onclick": () => state.set({ cause: cause === wanted ? null : cause }) },
      element("i", { "aria-hidden": "true" }), `${cause} `, element("b", {}, found.windows[cause] ? `${number(found.causes[cause])} ${unit}` : "0"))));
}

function showDays(byDay, unit) {
  const days = [];
  for (let at = start(); at <= end(); at = addDays(at, 1)) days.push({ at, found: sum(byDay.get(at) ?? []) });
  const top = Math.max(...days.map(({ found }) => found.difference), 0);
  const asTable = state.get("view") === "table";
  const box = one("[data-days]");
  box.classList.toggle("as-table", asTable);
  write(one("[data-unit]"), top ? `up to ${number(top)} ${unit} a day` : "");
  const button = one("[data-table-button]");
  button.setAttribute("aria-pressed", asTable);
  if (asTable) {
    box.replaceChildren(element("div", { class: "table-box", tabindex: "0" }, table("Differences by day", [{ title: "Day (UTC)" }, { title: `Difference, ${unit}`, number: true }, { title: "Share", number: true }, { title: "Causes" }],
      days.filter(({ found }) => windowsOf(found)).map(({ at, found }) => [at, number(found.difference), shareText(found), told(found, unit)]).reverse())));
    return;
  }
  if (!top && !day()) return box.replaceChildren(element("p", { class: "chart-empty" }, "No day with a difference."));
  const focused = document.activeElement?.dataset?.day;
  const columns = days.map(({ at, found }) => column(at, found, top, unit));
  (columns.find((one) => one.dataset.day === day()) ?? columns.at(-1)).tabIndex = 0;
  box.replaceChildren(element("div", { class: "columns" }, ...columns),
    element("div", { class: "column-words", "aria-hidden": "true" }, ...[0, 0.5, 1].map((part) => element("span", {}, dayWords(days[Math.round(part * (days.length - 1))].at, today())))));
  if (focused) one(`[data-day="${focused}"]`, box)?.focus();
}

const told = (found, unit) => Object.keys(CAUSES).filter((cause) => found.windows[cause]).map((cause) => `${cause} ${number(found.causes[cause])} ${unit} (${plural(found.windows[cause], "window")})`).join(", ");

function column(at, found, top, unit) {
  const words = windowsOf(found) ? `${at}: ${number(found.difference)} ${unit}, ${shareText(found)}; ${told(found, unit)}` : `${at}: no difference`;
  const parts = Object.keys(CAUSES).filter((cause) => found.windows[cause]).map((cause) => {
    const part = element("i", { "data-cause": cause });
    part.style.height = `${Math.max(2, top ? (100 * found.causes[cause]) / top : 0)}%`;
    return part;
  });
  return element("button", { type: "button", "data-day": at, "aria-pressed": String(at === day()), "aria-label": words, title: words, tabindex: "-1", ".onclick": () => state.set({ day: at === day() ? null : at }) }, ...parts.reverse());
}

function showAreas(byArea, unit) {
  const rows = [...byArea].map(([area, totals]) => ({ area, found: sum(totals) })).sort((a, b) => b.found.difference - a.found.difference);
  one("[data-areas]").replaceChildren(rows.length ? element("div", { class: "table-box", tabindex: "0" }, table("Differences by area", [{ title: "Area" }, { title: `Difference, ${unit}`, number: true }, { title: "Share", number: true }, { title: "Windows", number: true }],
    rows.slice(0, SHOWN).map(({ area, found }) => [area ? element("button", { type: "button", class: "linklike", ".onclick": () => state.set({ area }) }, area) : "no area", number(found.difference), shareText(found), count(windowsOf(found))])))
    : element("p", { class: "chart-empty" }, "No area differs."));
}

function showChannels({ rows, next }, unit) {
  const sorted = rows.sort((a, b) => Number(b.difference ?? 0) - Number(a.difference ?? 0));
  write(one("[data-channels-title]"), `Channels${day() ? ` on ${day()}` : ""}${state.get("cause") ? `: ${state.get("cause")}` : ""}`);
  const cell = (value) => (value === null ? DASH : number(Number(value)));
  const moved = (row) => change(row.batch === null ? null : Number(row.batch), row.speed === null ? null : Number(row.speed))?.text ?? "";
  one("[data-channels]").replaceChildren(sorted.length ? element("div", { class: "table-box", tabindex: "0" }, table("Channels that differ", [
    { title: "Channel" }, { title: "Day" }, { title: "Cause" }, { title: "Windows", number: true }, { title: `Speed, ${unit}`, number: true }, { title: `Batch, ${unit}`, number: true }, { title: "Moved", number: true }],
  sorted.slice(0, SHOWN).map((row) => [
    element("a", { href: `/channel/${encodeURIComponent(row.channel)}?day=${row.day}` }, row.channel), row.day,
    element("span", { class: "cause", "data-cause": row.cause, title: CAUSES[row.cause] }, element("i", { "aria-hidden": "true" }), row.cause),
    count(row.windows), cell(row.speed), cell(row.batch), element("span", { title: moved(row) }, cell(row.difference)),
  ]))) : element("p", { class: "chart-empty" }, "No channel differs here."));
  const all = next ? `of the first ${count(MOST_ROWS)}` : `of ${count(sorted.length)}`;
  write(one("[data-channels-note]"), sorted.length > SHOWN ? `The ${SHOWN} largest ${all}; CSV has all of them.` : "");
}

// --- wiring -------------------------------------------------------------------------------------------------------------

const markUtility = segmented(one("[data-utilities]"), (value) => state.set({ u: value === "electricity" ? null : value }));
for (const field of all("[data-filter]")) field.addEventListener("change", () => state.set({ [field.dataset.filter]: field.value.trim() || null, day: null }));
one("[data-days]").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const columns = all("[data-day]", one("[data-days]"));
  const at = columns.indexOf(event.target);
  if (!step || at < 0) return;
  event.preventDefault();
  const next = columns[Math.max(0, Math.min(columns.length - 1, at + step))];
  columns.forEach((one) => { one.tabIndex = one === next ? 0 : -1; });
  next.focus();
});
onKey("Escape", () => (day() || state.get("cause") || state.get("area") ? state.set({ day: null, cause: null, area: null }) : false));
UTILITIES.forEach((name, i) => onKey(String(i + 1), () => state.set({ u: name === "electricity" ? null : name })));
watchConnection(() => location.reload());
search();
state.onChange(load);
load();
