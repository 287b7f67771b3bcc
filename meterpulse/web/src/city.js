// The city page: map, total, today's curve, top areas, one area's detail, the platform's pulse.

import "./chart.js";
import "./map.js";
import "./spark.js";
import { address, get, Live, now } from "./api.js";
import { curve, linkSpan } from "./citycurve.js";
import { closeDetail, loadDetail, revealDetail, showDetail } from "./citydetail.js";
import { loadShapes, map, openArea, showMap, showRanking } from "./citymap.js";
import { ifThere, mode, model, utility } from "./citymodel.js";
import { element, one, segmented, write } from "./dom.js";
import { fillLinks, onKey, search, stamp, watchConnection } from "./frame.js";
import { state } from "./state.js";
import { ago, clock, HOUR, instant, isoTime, localDate, localDay } from "./time.js";
import { change, count, DASH, number, rateScale, short, shown, UTILITIES, WORDS } from "./units.js";
import { sameClock, WINDOW_MS, Windows } from "./windows.js";

const RATE_POINTS = 90;
let rates = [];

// --- loading --------------------------------------------------------------------------------------------------------

let turn = 0; // answers for a utility that is no longer chosen are dropped

async function reload() {
  const mine = ++turn;
  try {
    await model.loadAreas();
    const [minute, day] = await Promise.all([
      get(address("/v1/load", { utility: utility() })).catch(ifThere),
      model.city ? model.loadWindows(model.city.area).catch(ifThere) : null,
    ]);
    if (mine !== turn) return;
    model.windows = day ?? new Windows();
    if (minute) model.takeLoad(minute);
    showAll();
    await loadDetail();
  } catch (error) {
    if (error.status === undefined) throw error;
    console.warn(error.message); // the banner says when the server is gone
  }
}

const live = new Live(
  {
    status: showStatus,
    load: (event) => model.takeLoad(event) && showAll(),
    usage: (event) => {
      if (event.utility && event.utility !== utility()) return;
      if (event.area && event.area !== model.city?.area) return;
      const before = model.windows.freshUntil ?? 0;
      if (!model.windows.take(event)) return;
      scheduleCurve();
      const closed = Math.floor(before / WINDOW_MS) !== Math.floor((model.windows.freshUntil ?? 0) / WINDOW_MS);
      if (closed && state.get("area")) loadDetail().catch(() => {});
    },
  },
  (again) => again && reload(),
);

const connect = () => live.open({ area: model.city?.area, utility: utility(), areas: 1 });

// --- showing --------------------------------------------------------------------------------------------------------

function showAll() {
  showTotal();
  showMap();
  showRanking();
  showCurve();
  showDetail();
}

function showTotal() {
  const total = model.total();
  const unit = rateScale(utility(), "area", total);
  write(one("[data-total-title]"), `${model.city?.title ?? "City"} · ${WORDS[utility()].toLowerCase()} now`);
  write(one("[data-total]"), total === null ? DASH : number(total * unit.factor));
  write(one("[data-total-unit]"), total === null ? "" : unit.unit);
  document.title = `${total === null ? "City" : shown(total, unit)} · meterpulse`;
  one("[data-total]").classList.toggle("unknown", total === null);
  stamp(one("[data-total-stamp]"), total === null ? null : (model.load?.fresh ?? null), { before: "newest whole minute, ", staleAfter: 180_000 });
  showAgainst(total);
}

/** The total against yesterday's 5-minute window at the same time. */
function showAgainst(total) {
  const node = one("[data-against]");
  const at = model.load?.start ?? null;
  if (total === null || at === null) {
    node.replaceChildren(model.load ? "No readings yet" : "\u00a0");
    return;
  }
  const day = localDay(model.zone, localDate(model.zone, at));
  const then = sameClock(model.zone, at, day, model.dayBefore(day));
  const window = model.windows.byStart.get(Math.floor(then / WINDOW_MS) * WINDOW_MS);
  const rate = window && window.value !== null ? window.value * (HOUR / WINDOW_MS) : null;
  const moved = change(total, rate);
  if (!moved) {
    node.replaceChildren(`No readings from yesterday at ${clock(model.zone, at)}`);
    return;
  }
  const words = { more: "more than", less: "less than", same: "As much as" }[moved.direction];
  node.replaceChildren(
    element("b", { class: `moved ${moved.direction}` }, moved.direction === "same" ? "" : moved.text),
    ` ${words} yesterday at ${clock(model.zone, at)} `,
    element("span", { class: "muted then" }, `${shown(rate, rateScale(utility(), "area", rate))} then`),
  );
}

let curveTimer = null;
function scheduleCurve() {
  curveTimer ??= setTimeout(() => {
    curveTimer = null;
    showCurve();
    showAgainst(model.total());
  }, 1000);
}

function showCurve() {
  one("#city-chart").show(curve(model.windows, model.city?.area, model.city?.title ?? "The city"));
  stamp(one("[data-curve-stamp]"), model.windows.freshUntil, { before: "up to " });
  one("[data-curve] footer").hidden = !model.city;
  if (model.city) fillLinks("city", linkSpan(model.city.area));
}

// --- the platform's pulse -------------------------------------------------------------------------------------------

function showStatus(status) {
  const rate = status.readings_per_second ?? null;
  if (rate !== null) {
    rates = [...rates, rate].slice(-RATE_POINTS);
    one("[data-rate-spark]").values = [...Array(Math.max(0, 30 - rates.length)).fill(null), ...rates];
  }
  write(one("[data-rate]"), rate === null ? DASH : count(Math.round(rate)));
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

let before = null;
async function follow() {
  const after = { u: utility(), area: state.get("area"), b: state.get("b"), by: mode() };
  const first = before === null;
  const last = before ?? { u: after.u };
  before = after;
  document.documentElement.dataset.utility = after.u;
  markUtility(after.u);
  markMode(after.by);
  markBorough(after.b ?? "");
  if (last.b !== after.b) map.zoom(after.b);
  if (last.u !== after.u) {
    document.dispatchEvent(new Event("themechange")); // charts take their colours anew
    model.windows = new Windows();
    showAll();
    connect();
    await reload();
    return;
  }
  showMap();
  showRanking();
  if (last.area === after.area) {
    showDetail();
    return;
  }
  loadDetail().catch(() => {});
  if (after.area && !first) revealDetail();
}

function layoutMap() {
  const wide = matchMedia("(min-width: 900px)").matches;
  map.padding = wide ? { top: 34, right: 56, bottom: 56, left: 56 } : { top: 18, right: 26, bottom: 18, left: 18 };
  map.zoomPadding = wide ? { left: 350, top: 90, bottom: 130 } : {};
}

function suggestions(text) {
  const wanted = text.toLowerCase();
  return model.leaves().concat(map.boroughs).filter((area) => `${area} ${model.titleOf(area)}`.toLowerCase().includes(wanted))
    .map((area) => ({ label: area, note: model.shapes.get(area)?.name ?? "Borough", go: () => openArea(area) }));
}

async function start() {
  watchConnection(() => live.retry());
  layoutMap();
  matchMedia("(min-width: 900px)").addEventListener("change", layoutMap);
  search(suggestions);
  document.documentElement.dataset.utility = utility();
  await Promise.allSettled([get("/geo/areas.json").then(loadShapes), model.loadAreas()]);
  map.zoom(state.get("b"));
  state.onChange(follow);
  follow();
  connect();
  await reload();
}

setInterval(() => model.load && showCurve(), 60_000); // the line of "now" and the midnight come by themselves
start();
