// The city page's map with its colours, legend and table, and the list of top areas.

import { address, now } from "./api.js";
import { mode, model, utility } from "./citymodel.js";
import { element, one, table, write } from "./dom.js";
import { stamp } from "./frame.js";
import { ramp } from "./ramp.js";
import { state } from "./state.js";
import { count, DASH, number, plain, shown, WORDS } from "./units.js";

const TOP = 8;
const KEEP_COLOURS_MS = 10 * 60_000; // so that the map does not change its meaning every minute
const FRESH_MS = 180_000;

export const map = one("[data-map]");
let colours = null;
let note = "";

export function openArea(area) {
  state.set({ area }, { step: true });
}

/** Put the shapes in; `about` is what the legend has to say of them. */
export function loadShapes(collection) {
  note = collection.about ? "Cells around ZIP points (not ZCTAs), not postal boundaries." : "";
  map.load(collection);
  for (const area of map.areas) model.shapes.set(area, map.about(area));
  const boroughs = map.boroughs;
  const chips = one("[data-boroughs]");
  chips.hidden = boroughs.length < 2;
  chips.replaceChildren(...["", ...boroughs].map((name) => element("button", { type: "button", role: "radio", "data-value": name }, name || "All")));
}

export function showMap() {
  const values = new Map();
  for (const area of model.leaves()) {
    const rate = model.shownRate(area);
    if (rate !== null) values.set(area, rate);
  }
  const unit = model.scale(Math.max(0, ...values.values()));
  const key = `${utility()} ${mode()} ${unit.unit}`;
  if (colours?.key !== key || colours.until < now() || !colours.ramp.fits([...values.values()])) {
    colours = { key, until: now() + KEEP_COLOURS_MS, ramp: ramp([...values.values()].map((value) => value * unit.factor), unit.factor) };
    showLegend(unit);
  }
  const [steps, texts] = [new Map(), new Map()];
  for (const area of map.areas) {
    const rate = values.get(area);
    if (rate !== undefined) steps.set(area, colours.ramp.step(rate));
    const says = rate === undefined ? "no data" : shown(rate, unit) + (mode() === "meter" ? " per meter" : "");
    texts.set(area, `${model.titleOf(area)}: ${says}, ${count(model.metersOf(area))} meters`);
  }
  map.color({ steps, texts });
  const asTable = state.get("view") === "table";
  one("[data-map-table]").hidden = !asTable;
  map.hidden = asTable;
  one("[data-stage]").classList.toggle("as-table", asTable);
  if (asTable) showTable(values, unit);
}

const perUnit = (unit) => (mode() === "meter" ? `${unit.unit} per meter` : unit.unit);

function showTable(values, unit) {
  const box = one("[data-map-table]");
  const top = box.scrollTop;
  const rows = model.leaves().sort((a, b) => (values.get(b) ?? -1) - (values.get(a) ?? -1)).map((area) => [
    element("button", { type: "button", class: "linklike", ".onclick": () => openArea(area) }, area),
    model.shapes.get(area)?.borough ?? model.areas.get(model.areas.get(area)?.parent)?.title ?? DASH,
    values.has(area) ? number(values.get(area) * unit.factor) : "no data",
    count(model.metersOf(area)),
    count(model.load?.counts.get(area)),
  ]);
  const columns = [{ title: "Area" }, { title: "Borough" }, { title: perUnit(unit), number: true }, { title: "Meters", number: true }, { title: "Readings in the minute", number: true }];
  box.replaceChildren(table(`${WORDS[utility()]} now, by area`, columns, rows));
  box.scrollTop = top;
}

function showLegend(unit) {
  const { breaks, classes } = colours.ramp;
  const swatch = (step, i) => element("span", { "data-step": step }, element("i"), element("b", {}, breaks[i] === undefined ? "" : plain(breaks[i])));
  one("[data-legend]").replaceChildren(
    element("figcaption", {}, element("span", {}, perUnit(unit)), element("span", { class: "none" }, element("i", { class: "hatched" }), "no data")),
    element("div", { class: "ramp" }, ...classes.map(swatch)),
    element("p", { class: "fine" }, note),
  );
}

export function showRanking() {
  const borough = state.get("b");
  const rows = model.leaves().filter((area) => !borough || model.shapes.get(area)?.borough === borough)
    .map((area) => ({ area, rate: model.shownRate(area) })).filter((row) => row.rate !== null).sort((a, b) => b.rate - a.rate).slice(0, TOP);
  const unit = model.scale(rows[0]?.rate);
  write(one("[data-top-unit]"), perUnit(unit));
  write(one("#top-title"), borough ? `Top areas in ${borough}` : "Top areas");
  one("[data-load-link]").href = address("/v1/load", { utility: utility() });
  stamp(one("[data-top-stamp]"), rows.length ? (model.load?.fresh ?? null) : null, { staleAfter: FRESH_MS });
  const list = one("[data-ranking]");
  if (!rows.length) {
    const why = model.areas.size ? "No whole minute of readings yet." : "No meters yet. Register channels with POST /v1/channels, or start the demo city.";
    list.replaceChildren(element("li", { class: "chart-empty" }, why));
    return;
  }
  if (list.querySelectorAll("button").length !== rows.length) list.replaceChildren(...rows.map(rankRow));
  list.querySelectorAll("button").forEach((button, i) => {
    const { area, rate } = rows[i];
    const shape = model.shapes.get(area);
    const title = model.areas.get(area)?.title;
    button.dataset.area = area;
    button.setAttribute("aria-current", String(area === state.get("area")));
    write(one(".name b", button), area);
    write(one(".name small", button), (shape && shape.name !== area ? shape.name : null) ?? (title !== area ? title : null) ?? "");
    write(one(".value", button), number(rate * unit.factor));
    one(".bar i", button).style.width = `${(100 * rate) / rows[0].rate}%`;
  });
}

function rankRow() {
  const button = element("button", { type: "button", ".onclick": (event) => openArea(event.currentTarget.dataset.area) },
    element("span", { class: "name" }, element("b"), " ", element("small")), element("span", { class: "value" }), element("span", { class: "bar" }, element("i")));
  return element("li", {}, button);
}
