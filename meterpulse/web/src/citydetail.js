// The panel of one area: what it uses now, its day, its place among the others.

import { curve, linkSpan } from "./citycurve.js";
import { map } from "./citymap.js";
import { ifThere, mode, model, utility } from "./citymodel.js";
import { element, one, write } from "./dom.js";
import { fillLinks, stamp } from "./frame.js";
import { state } from "./state.js";
import { count, DASH, rateScale, shown } from "./units.js";
import { Windows } from "./windows.js";

let detail = null; // {area, utility, windows, loaded}

/** Show the area of the address, at once with what is known, then with its day. */
export async function loadDetail() {
  const area = state.get("area");
  if (!area) {
    detail = null;
    showDetail();
    return;
  }
  if (detail?.area !== area || detail.utility !== utility()) detail = { area, utility: utility(), windows: new Windows(), loaded: false };
  const mine = detail;
  showDetail();
  const taken = await model.loadWindows(model.key(area)).catch(ifThere);
  if (detail !== mine) return; // another was chosen meanwhile
  Object.assign(detail, { windows: taken ?? new Windows(), loaded: true });
  showDetail();
}

export function showDetail() {
  const area = state.get("area");
  one("[data-detail]").hidden = !area;
  one("[data-rail]").classList.toggle("has-detail", Boolean(area));
  map.selected = area;
  if (!area || !detail) return;
  const key = model.key(area);
  const shape = model.shapes.get(area);
  const known = model.areas.get(key);
  write(one("[data-detail-kind]"), known?.kind === "borough" ? "Borough" : `Postcode${shape?.borough ? ` · ${shape.borough}` : ""}`);
  const place = shape && shape.name !== shape.borough && shape.name !== area ? ` ${shape.name}` : "";
  write(one("[data-detail-title]"), (shape ? area : (known?.title ?? area)) + place);
  one("[data-detail-facts]").replaceChildren(...facts(key).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const chart = curve(detail.windows, key, known?.title ?? area);
  one("#detail-chart").show(detail.loaded || !chart.empty ? chart : { ...chart, empty: "Loading…" });
  fillLinks("detail", linkSpan(key));
  stamp(one("[data-detail-stamp]"), model.load?.fresh ?? null, { staleAfter: 180_000 });
}

function facts(key) {
  const rate = model.rateOf(key);
  const meters = model.metersOf(key);
  const ranked = model.leaves().map((leaf) => [leaf, model.shownRate(leaf)]).filter(([, value]) => value !== null).sort((a, b) => b[1] - a[1]);
  const rank = ranked.findIndex(([leaf]) => leaf === key) + 1;
  return [
    ["Now", rate === null ? "no data" : shown(rate, rateScale(utility(), "area", rate))],
    ["Per meter", rate === null || !meters ? DASH : shown(rate / meters, rateScale(utility(), "meter"))],
    ["Meters", count(meters)],
    rank ? [mode() === "meter" ? "Rank per meter" : "Rank", `${rank} of ${ranked.length}`] : ["Areas", count(model.leavesOf(key).length)],
  ];
}

export function closeDetail() {
  const area = state.get("area");
  if (!area) return false;
  state.set({ area: null }, { step: true });
  if (map.areas.includes(area)) map.focusArea(area);
  return true;
}

/** Move to the panel after the reader chose an area. */
export function revealDetail() {
  one("[data-detail-title]").focus({ preventScroll: true });
  const box = one("[data-detail]").getBoundingClientRect();
  if (box.top > innerHeight * 0.7 || box.top < 0) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    one("[data-detail]").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  }
}
