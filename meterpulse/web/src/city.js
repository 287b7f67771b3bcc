// The city page: map, total, today's curve, top areas, one area's detail, the platform's pulse.

import "./chart.js";
import "./map.js";
import "./spark.js";
import { address, connection, get, Live, now } from "./api.js";
import { element, one, segmented, write } from "./dom.js";
import { fillLinks, onKey, search, stamp, watchConnection } from "./frame.js";
import { ramp } from "./ramp.js";
import { state } from "./state.js";
import { addDays, ago, clock, dayTicks, HOUR, instant, isoTime, localDate, localDay } from "./time.js";
import { amount, change, count, DASH, number, rateScale, short, shown, UTILITIES, WORDS } from "./units.js";
import { binMiddles, binRates, overlaidRates, sameClock, WINDOW_MS, Windows } from "./windows.js";
import { table } from "./dom.js";

const map = one("[data-map]");
const RATE_POINTS = 90;
const TOP = 8;

const areas = new Map(); // area → the registry's {area, title, kind, parent, channels}
const children = new Map(); // area → leaf areas below it
let city = null; // the top area
let load = null; // {start, fresh, kwh: Map(area → rate per hour), unit}
let windows = new Windows(); // the city's, today and yesterday
let detail = null; // {area, windows}
let rates = [];

const utility = () => (UTILITIES.includes(state.get("u")) ? state.get("u") : "electricity");
const mode = () => (state.get("by") === "total" ? "total" : "meter");
const zone = () => city?.time_zone ?? "UTC";
const metersOf = (area) => areas.get(area)?.channels?.[utility()] ?? 0;
const titleOf = (area) => {
  const known = map.about(area);
  const title = areas.get(area)?.title ?? area;
  return known && known.name !== area ? `${area} ${known.name === known.borough || !known.borough ? known.name : `${known.name}, ${known.borough}`}` : title;
};

// --- loading --------------------------------------------------------------------------------------------------------

async function loadAreas() {
  const answer = await get("/v1/areas");
  areas.clear();
  children.clear();
  for (const area of answer.areas ?? []) areas.set(area.area, area);
  const parents = new Set([...areas.values()].map((area) => area.parent).filter(Boolean));
  for (const area of areas.values()) {
    if (parents.has(area.area)) continue;
    for (let above = area; above; above = areas.get(above.parent)) {
      if (!children.has(above.area)) children.set(above.area, []);
      children.get(above.area).push(area.area);
    }
  }
  city = areas.get("city") ?? [...areas.values()].find((area) => !area.parent && parents.has(area.area)) ?? null;
}

/** Today and yesterday of an area in 5-minute windows. */
async function loadWindows(area) {
  const today = localDate(zone(), now());
  const span = { start: isoTime(localDay(zone(), addDays(today, -1)).start), end: isoTime(localDay(zone(), today).end) };
  const taken = new Windows();
  taken.take(await get(address("/v1/usage", { area, utility: utility(), ...span, grain: "5m" })));
  return taken;
}

let turn = 0; // answers for a utility that is no longer chosen are dropped

async function reload() {
  const mine = ++turn;
  try {
    await loadAreas();
    const [minute, day] = await Promise.all([
      get(address("/v1/load", { utility: utility() })).catch(ignore404),
      city ? loadWindows(city.area).catch(ignore404) : null,
    ]);
    if (mine !== turn) return;
    windows = day ?? new Windows();
    if (minute) takeLoad(minute);
    else showAll();
    await loadDetail();
  } catch (error) {
    if (error.status) console.warn(error.message);
  }
}

function ignore404(error) {
  if (error.status === 404 || error.status === 400) return null;
  throw error;
}

async function loadDetail() {
  const area = state.get("area");
  if (!area) {
    detail = null;
    showDetail();
    return;
  }
  if (detail?.area !== area || detail.utility !== utility()) detail = { area, utility: utility(), windows: new Windows() };
  const mine = detail;
  showDetail();
  const taken = await loadWindows(areaKey(area)).catch(ignore404);
  if (detail !== mine) return;
  detail.windows = taken ?? new Windows();
  detail.loaded = true;
  showDetail();
}

/** A borough of the map by its name, an area of the registry by its own. */
function areaKey(area) {
  if (areas.has(area)) return area;
  return [...areas.values()].find((one) => one.title === area)?.area ?? area;
}

function takeLoad(answer) {
  if (answer.utility && answer.utility !== utility()) return;
  const perHour = 3600 / (answer.seconds ?? 60);
  const values = new Map();
  const counts = new Map();
  for (const [area, { quantity, count: readings }] of Object.entries(answer.areas ?? {})) {
    const value = amount(quantity, answer.unit);
    if (value !== null) values.set(area, value * perHour);
    counts.set(area, readings);
  }
  load = { start: instant(answer.start), seconds: answer.seconds ?? 60, fresh: instant(answer.fresh_until), values, counts, utility: utility() };
  showAll();
}

const live = new Live(
  {
    status: showStatus,
    load: takeLoad,
    usage: (event) => {
      if (event.utility && event.utility !== utility()) return;
      if (event.area && event.area !== city?.area) return;
      const before = windows.freshUntil;
      if (!windows.take(event)) return;
      scheduleCurve();
      if (detail && Math.floor((before ?? 0) / WINDOW_MS) !== Math.floor((windows.freshUntil ?? 0) / WINDOW_MS)) loadDetail().catch(() => {});
    },
  },
  (again) => again && reload(),
);

const connect = () => live.open({ area: city?.area, utility: utility(), areas: 1 });

// --- showing --------------------------------------------------------------------------------------------------------

const current = () => (load?.utility === utility() ? load : null);
const rateOf = (area) => {
  const values = current()?.values;
  if (!values) return null;
  if (values.has(area)) return values.get(area);
  const known = (children.get(area) ?? []).filter((leaf) => values.has(leaf));
  return known.length ? known.reduce((sum, leaf) => sum + values.get(leaf), 0) : null;
};
const shownRate = (area) => {
  const rate = rateOf(area);
  if (rate === null || mode() === "total") return rate;
  return metersOf(area) > 0 ? rate / metersOf(area) : null;
};
const scale = (largest) => rateScale(utility(), mode() === "meter" ? "meter" : "area", largest);
const leaves = () => [...new Set([...(current()?.values.keys() ?? []), ...map.areas])];

function showAll() {
  showTotal();
  showMap();
  showRanking();
  showCurve();
  showDetail();
}

function showTotal() {
  const values = current()?.values;
  const total = values?.size ? [...values.values()].reduce((sum, value) => sum + value, 0) : null;
  const unit = rateScale(utility(), "area", total);
  write(one("[data-total-title]"), `${city?.title ?? "City"} · ${WORDS[utility()].toLowerCase()} now`);
  write(one("[data-total]"), total === null ? DASH : number(total * unit.factor));
  write(one("[data-total-unit]"), total === null ? "" : unit.unit);
  document.title = `${total === null ? "City" : `${number(total * unit.factor)} ${unit.unit}`} · meterpulse`;
  stamp(one("[data-total-stamp]"), current()?.fresh ?? null, { before: "newest whole minute, ", staleAfter: 180_000 });
  showAgainst(total);
}

/** The total against yesterday's 5-minute window at the same time. */
function showAgainst(total) {
  const node = one("[data-against]");
  const at = current()?.start;
  if (total === null || at === null || at === undefined) {
    node.replaceChildren(current() ? "No readings yet" : "\u00a0");
    return;
  }
  const [today, yesterday] = [localDay(zone(), localDate(zone(), at)), localDay(zone(), addDays(localDate(zone(), at), -1))];
  const then = sameClock(zone(), at, today, yesterday);
  const window = windows.byStart.get(Math.floor(then / WINDOW_MS) * WINDOW_MS);
  const rate = window && window.value !== null ? window.value * (HOUR / WINDOW_MS) : null;
  const moved = change(total, rate);
  if (!moved) {
    node.replaceChildren(`No readings from yesterday at ${clock(zone(), at)}`);
    return;
  }
  const words = { more: "more than", less: "less than", same: "the same as" }[moved.direction];
  node.replaceChildren(
    element("b", { class: `moved ${moved.direction}` }, moved.direction === "same" ? "" : moved.text),
    ` ${words} yesterday at ${clock(zone(), at)} `, element("span", { class: "muted then" }, `${shown(rate, rateScale(utility(), "area", rate))} then`),
  );
}

let colours = null; // kept for a while, so that the map does not change its meaning every minute

function showMap() {
  const values = new Map();
  for (const area of leaves()) {
    const rate = shownRate(area);
    if (rate !== null) values.set(area, rate);
  }
  const unit = scale(Math.max(0, ...values.values()));
  const key = `${utility()} ${mode()} ${unit.unit}`;
  if (!colours || colours.key !== key || colours.until < now() || !colours.ramp.fits([...values.values()])) {
    colours = { key, until: now() + 10 * 60_000, ramp: ramp([...values.values()].map((value) => value * unit.factor), unit.factor) };
    showLegend(unit);
  }
  const steps = new Map();
  const texts = new Map();
  for (const area of map.areas) {
    const rate = values.get(area);
    if (rate !== undefined) steps.set(area, colours.ramp.step(rate));
    texts.set(area, `${titleOf(area)}: ${rate === undefined ? "no data" : `${shown(rate, unit)}${mode() === "meter" ? " per meter" : ""}, ${count(metersOf(area))} meters`}`);
  }
  map.color({ steps, texts });
  const box = one("[data-map-table]");
  const asTable = state.get("view") === "table";
  box.hidden = !asTable;
  map.hidden = asTable;
  if (asTable) drawMapTable(box, values, unit);
}

function drawMapTable(box, values, unit) {
  const top = box.scrollTop;
  const rows = leaves().sort((a, b) => (values.get(b) ?? -1) - (values.get(a) ?? -1)).map((area) => [
    element("button", { type: "button", class: "linklike", ".onclick": () => openArea(area) }, area),
    map.about(area)?.borough ?? areas.get(areas.get(area)?.parent)?.title ?? DASH,
    values.has(area) ? number(values.get(area) * unit.factor) : "no data",
    count(metersOf(area)),
    count(current()?.counts.get(area)),
  ]);
  const per = mode() === "meter" ? `${unit.unit} per meter` : unit.unit;
  box.replaceChildren(table(`${WORDS[utility()]} now, by area`, [{ title: "Area" }, { title: "Borough" }, { title: per, number: true }, { title: "Meters", number: true }, { title: "Readings in the minute", number: true }], rows));
  box.scrollTop = top;
}

function showLegend(unit) {
  const { breaks, classes } = colours.ramp;
  const per = mode() === "meter" ? `${unit.unit} per meter` : unit.unit;
  one("[data-legend]").replaceChildren(
    element("figcaption", {}, element("span", {}, per), element("span", { class: "none" }, element("i", { class: "hatched" }), "no data")),
    element("div", { class: "ramp" }, ...classes.map((step, i) => element("span", { "data-step": step, title: `${breaks[i] === undefined ? "from" : "up to"} ${number(breaks[i] ?? breaks.at(-1))}` }, element("i", {}), element("b", {}, breaks[i] === undefined ? "" : number(breaks[i]))))),
    element("p", { class: "fine" }, mapNote),
  );
}
let mapNote = "";

function showRanking() {
  const borough = state.get("b");
  const rows = leaves().filter((area) => !borough || map.about(area)?.borough === borough)
    .map((area) => ({ area, rate: shownRate(area) })).filter((row) => row.rate !== null).sort((a, b) => b.rate - a.rate).slice(0, TOP);
  const unit = scale(rows[0]?.rate);
  write(one("[data-top-unit]"), mode() === "meter" ? `${unit.unit} per meter` : unit.unit);
  write(one("#top-title"), borough ? `Top areas in ${borough}` : "Top areas");
  one("[data-load-link]").href = address("/v1/load", { utility: utility() });
  stamp(one("[data-top-stamp]"), current()?.fresh ?? null, { staleAfter: 180_000 });
  const list = one("[data-ranking]");
  if (!rows.length) {
    list.replaceChildren(element("li", { class: "chart-empty" }, areas.size ? "No complete minute yet." : "No meters yet. Register channels with POST /v1/channels, or start the demo city."));
    return;
  }
  const chosen = state.get("area");
  const rowsShown = [...list.querySelectorAll("button")];
  if (rowsShown.length !== rows.length) list.replaceChildren(...rows.map(() => element("li", {}, element("button", { type: "button", ".onclick": (event) => openArea(event.currentTarget.dataset.area) },
    element("span", { class: "name" }, element("b"), " ", element("small")), element("span", { class: "value" }), element("span", { class: "bar" }, element("i"))))));
  [...list.querySelectorAll("button")].forEach((button, i) => {
    const { area, rate } = rows[i];
    const about = map.about(area);
    button.dataset.area = area;
    button.setAttribute("aria-current", String(area === chosen));
    write(one(".name b", button), area);
    write(one(".name small", button), about ? (about.name === area ? (about.borough ?? "") : about.name) : (areas.get(area)?.title !== area ? areas.get(area)?.title ?? "" : ""));
    write(one(".value", button), number(rate * unit.factor));
    one(".bar i", button).style.width = `${(100 * rate) / rows[0].rate}%`;
  });
}

let curveTimer = null;
function scheduleCurve() {
  curveTimer ??= setTimeout(() => {
    curveTimer = null;
    showCurve();
    showAgainst(current()?.values.size ? rateOf(city?.area) : null);
  }, 1000);
}

function showCurve() {
  one("#city-chart").show(curve(windows, city?.area, city?.title ?? "The city"));
  stamp(one("[data-curve-stamp]"), windows.freshUntil, { before: "up to " });
  if (city) fillLinks("city", linkSpan(city.area));
}

const linkSpan = (area) => {
  const day = localDay(zone(), localDate(zone(), now()));
  return { area, utility: utility(), start: isoTime(day.start), end: isoTime(day.end), grain: "5m" };
};

/** What <mp-chart> needs to show an area's day against the day before. */
function curve(taken, area, name) {
  const date = localDate(zone(), now());
  const [day, before] = [localDay(zone(), date), localDay(zone(), addDays(date, -1))];
  const until = Math.min(now(), taken.freshUntil ?? now());
  const closed = Math.floor(until / WINDOW_MS) * WINDOW_MS;
  const today = binRates(taken, day, WINDOW_MS, closed);
  const yesterday = overlaidRates(taken, zone(), before, day, WINDOW_MS);
  const largest = Math.max(0, ...today, ...yesterday);
  const unit = rateScale(utility(), "area", largest);
  const factor = (value) => (value === null ? null : value * unit.factor);
  const first = taken.between(day.start, day.end)[0]?.start ?? day.start;
  const rate = rateOf(area);
  const at = (current()?.start ?? 0) + 30_000;
  const format = (value) => `${number(value)} ${unit.unit}`;
  const index = (ms) => Math.floor((ms - day.start) / WINDOW_MS);
  return {
    span: (day.end - day.start) / 1000, ticks: dayTicks(zone(), day, 3), x: binMiddles(day, WINDOW_MS), unit: unit.unit, format,
    series: [
      { key: "today", name: "Today", style: "area", values: today.map(factor) },
      { key: "yesterday", name: "Yesterday", style: "dashed", values: yesterday.map(factor) },
    ],
    missing: taken.byStart.size ? taken.gaps(first, Math.max(first, closed)).map((gap) => gap.map((ms) => (ms - day.start) / 1000)) : [],
    now: (now() - day.start) / 1000,
    point: rate !== null && at >= day.start && at < day.end ? { at: (at - day.start) / 1000, value: rate * unit.factor } : null,
    clock: (i) => `${clock(zone(), day.start + i * WINDOW_MS)} – ${clock(zone(), day.start + (i + 1) * WINDOW_MS)}`,
    empty: taken.byStart.size ? null : (connection.state === "connecting" ? "Loading…" : "No readings today or yesterday yet. The curve starts with the first closed 5 minutes."),
    sentence: curveSentence(taken, name, day, before, closed, unit, { today, yesterday, index }),
    columns: [{ title: "From" }, { title: `Today, ${unit.unit}`, number: true }, { title: `Yesterday, ${unit.unit}`, number: true }],
    rows: hourly(day, (i) => [today[i], yesterday[i]], factor),
  };
}

function hourly(day, at, factor) {
  const rows = [];
  const perHour = HOUR / WINDOW_MS;
  const mean = (from, which) => {
    const known = Array.from({ length: perHour }, (_, k) => at(from + k)[which]).filter((value) => value !== null && value !== undefined);
    return known.length ? number(factor(known.reduce((sum, value) => sum + value, 0) / known.length)) : "no data";
  };
  for (let i = 0; day.start + i * WINDOW_MS < day.end && day.start + i * WINDOW_MS < now(); i += perHour) {
    rows.unshift([clock(zone(), day.start + i * WINDOW_MS), mean(i, 0), mean(i, 1)]);
  }
  return rows;
}

function curveSentence(taken, name, day, before, closed, unit, { today, yesterday, index }) {
  const peak = Math.max(...today.filter((value) => value !== null), -1);
  if (peak < 0) return "";
  const peakAt = clock(zone(), day.start + today.indexOf(peak) * WINDOW_MS);
  // only the windows that both days have, so that like is compared with like
  let [sum, sumBefore, both] = [0, 0, 0];
  for (let i = 0; i < index(closed); i++) {
    if (today[i] === null || yesterday[i] === null) continue;
    sum += today[i];
    sumBefore += yesterday[i];
    both += 1;
  }
  const moved = both >= 6 ? change(sum, sumBefore) : null;
  const against = moved ? ` ${moved.direction === "same" ? "As much as" : `${moved.text} ${moved.direction} than`} yesterday over the same ${both >= 24 ? `${Math.round(both / 12)} hours` : `${both * 5} minutes`}.` : "";
  return `${name}: highest so far ${shown(peak, unit)} at ${peakAt}.${against}`;
}

// --- one area -------------------------------------------------------------------------------------------------------

function openArea(area, { step = true } = {}) {
  state.set({ area }, { step });
}

function showDetail() {
  const area = state.get("area");
  const panel = one("[data-detail]");
  panel.hidden = !area;
  one("[data-rail]").classList.toggle("has-detail", Boolean(area));
  map.selected = area;
  if (!area || !detail) return;
  const key = areaKey(area);
  const about = map.about(area);
  const known = areas.get(key);
  write(one("[data-detail-kind]"), known?.kind === "borough" ? "Borough" : `Postcode${about?.borough ? ` · ${about.borough}` : ""}`);
  write(one("[data-detail-title]"), about && about.name !== about.borough && about.name !== area ? `${area} ${about.name}` : (known?.title ?? area));
  const rate = rateOf(key);
  const meters = metersOf(key);
  const unit = rateScale(utility(), "area", rate);
  const per = rateScale(utility(), "meter");
  const ranked = leaves().map((leaf) => [leaf, shownRate(leaf)]).filter(([, value]) => value !== null).sort((a, b) => b[1] - a[1]);
  const rank = ranked.findIndex(([leaf]) => leaf === key) + 1;
  const facts = [
    ["Now", rate === null ? "no data" : shown(rate, unit)],
    ["Per meter", rate === null || !meters ? DASH : shown(rate / meters, per)],
    ["Meters", count(meters)],
    rank ? [mode() === "meter" ? "Rank per meter" : "Rank", `${rank} of ${ranked.length}`] : ["Areas", count(children.get(key)?.length)],
  ];
  one("[data-detail-facts]").replaceChildren(...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const chart = curve(detail.windows, key, known?.title ?? area);
  one("#detail-chart").show(detail.loaded || !chart.empty ? chart : { ...chart, empty: "Loading…" });
  fillLinks("detail", linkSpan(key));
  stamp(one("[data-detail-stamp]"), current()?.fresh ?? null, { staleAfter: 180_000 });
}

function closeDetail() {
  const area = state.get("area");
  if (!area) return false;
  state.set({ area: null }, { step: true });
  if (map.areas.includes(area)) map.focusArea(area);
  return true;
}

// --- the platform's pulse -------------------------------------------------------------------------------------------

function showStatus(status) {
  const rate = status.readings_per_second;
  if (typeof rate === "number") {
    rates = [...rates, rate].slice(-RATE_POINTS);
    one("[data-rate-spark]").values = [...Array(Math.max(0, 30 - rates.length)).fill(null), ...rates];
  }
  write(one("[data-rate]"), count(rate === undefined || rate === null ? null : Math.round(rate)));
  for (const name of ["accepted", "late", "duplicates", "quarantined"]) {
    const node = one(`[data-${name}]`);
    write(node, short(status[name]));
    node.title = count(status[name]);
  }
  const lag = status.lag ?? {};
  write(one("[data-lag]"), lag.seconds === undefined || lag.seconds === null ? DASH : `${number(lag.seconds)} s`);
  one("[data-lag]").title = `${count(lag.readings)} readings`;
  const watermark = instant(status.watermark);
  write(one("[data-watermark]"), watermark === null ? DASH : ago(now() - watermark));
  one("[data-watermark]").title = watermark === null ? "" : isoTime(watermark);
}

// --- wiring ---------------------------------------------------------------------------------------------------------

const markUtility = segmented(one("[data-utilities]"), (value) => state.set({ u: value === "electricity" ? null : value }));
const markMode = segmented(one("[data-modes]"), (value) => state.set({ by: value === "meter" ? null : value }));
const markBorough = segmented(one("[data-boroughs]"), (value) => state.set({ b: value || null }));
UTILITIES.forEach((name, i) => onKey(String(i + 1), () => state.set({ u: i ? name : null })));
onKey("Escape", () => closeDetail() || (state.get("b") ? state.set({ b: null }) : false));
for (const key of ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]) {
  onKey(key, (event) => {
    if (event.target !== document.body && event.target.id !== "main") return false;
    const chosen = state.get("area");
    map.focusArea(map.areas.includes(chosen) ? chosen : (one(".ranking button")?.dataset.area ?? map.areas[0]));
    return true;
  });
}
one("[data-detail-close]").addEventListener("click", closeDetail);
map.addEventListener("choose", (event) => openArea(event.detail));
map.addEventListener("choose-borough", (event) => state.set({ b: event.detail, area: event.detail }, { step: true }));

let before = {};
async function follow() {
  const after = { u: utility(), area: state.get("area"), b: state.get("b"), by: mode() };
  document.documentElement.dataset.utility = after.u;
  markUtility(after.u);
  markMode(after.by);
  markBorough(after.b ?? "");
  if (before.b !== after.b) map.zoom(after.b);
  const changed = { u: before.u !== undefined && before.u !== after.u, area: before.area !== after.area };
  before = after;
  if (changed.u) {
    document.dispatchEvent(new Event("themechange")); // charts take their colours anew
    windows = new Windows();
    detail = null;
    showAll();
    connect();
    await reload();
  } else {
    showMap();
    showRanking();
    if (changed.area) {
      await loadDetail().catch(() => {});
      if (after.area && document.activeElement?.closest?.("mp-map, .ranking, .found, [data-search], body")) revealDetail();
    } else showDetail();
  }
}

function revealDetail() {
  const panel = one("[data-detail]");
  one("[data-detail-title]").focus({ preventScroll: true });
  const box = panel.getBoundingClientRect();
  if (box.top > innerHeight * 0.7 || box.top < 0) {
    panel.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", block: "start" });
  }
}

function layoutMap() {
  const wide = matchMedia("(min-width: 900px)").matches;
  map.padding = wide ? { top: 34, right: 56, bottom: 56, left: 56 } : { top: 18, right: 26, bottom: 18, left: 18 };
}

async function start() {
  watchConnection(() => live.retry());
  layoutMap();
  matchMedia("(min-width: 900px)").addEventListener("change", layoutMap);
  search((text) => {
    const wanted = text.toLowerCase();
    return leaves().concat(map.boroughs).filter((area) => `${area} ${titleOf(area)}`.toLowerCase().includes(wanted))
      .map((area) => ({ label: area, note: map.about(area)?.name ?? "Borough", go: () => openArea(area) }));
  });
  document.documentElement.dataset.utility = utility();
  const shapes = get("/geo/areas.json").then((collection) => {
    mapNote = collection.about ? "Cells around ZIP points, not postal boundaries." : "";
    map.load(collection);
    const boroughs = map.boroughs;
    one("[data-boroughs]").hidden = boroughs.length < 2;
    one("[data-boroughs]").replaceChildren(...["", ...boroughs].map((name) => element("button", { type: "button", role: "radio", "data-value": name }, name || "All")));
    map.zoom(state.get("b"));
  });
  await Promise.allSettled([shapes, loadAreas()]);
  state.onChange(follow);
  await follow();
  connect();
  await reload();
}

// a local midnight, a minute without events: the curve's right edge and the totals move by the clock too
setInterval(() => current() && showCurve(), 60_000);
start();
