// What the city page knows: areas, the newest whole minute per area, and windows of today and yesterday.

import { address, get, now } from "./api.js";
import { addDays, instant, isoTime, localDate, localDay } from "./time.js";
import { amount, rateScale, UTILITIES } from "./units.js";
import { Windows } from "./windows.js";
import { state } from "./state.js";

export const utility = () => (UTILITIES.includes(state.get("u")) ? state.get("u") : "electricity");
export const mode = () => (state.get("by") === "total" ? "total" : "meter");

/** null where the API says that there is nothing of that name; other errors go on. */
export function ifThere(error) {
  if (error.status === 404 || error.status === 422) return null;
  throw error;
}

class CityModel {
  areas = new Map(); // area → the registry's {area, title, kind, parent, time_zone, channels}
  shapes = new Map(); // area → the map's {name, borough}
  city = null; // the top area
  windows = new Windows(); // its 5-minute windows, today and yesterday
  #leavesUnder = new Map();
  #load = null;

  async loadAreas() {
    const answer = await get("/v1/areas");
    this.areas = new Map((answer.areas ?? []).map((area) => [area.area, area]));
    const parents = new Set([...this.areas.values()].map((area) => area.parent).filter(Boolean));
    this.#leavesUnder = new Map();
    for (const area of this.areas.values()) {
      if (parents.has(area.area)) continue;
      for (let above = area; above; above = this.areas.get(above.parent)) {
        if (!this.#leavesUnder.has(above.area)) this.#leavesUnder.set(above.area, []);
        this.#leavesUnder.get(above.area).push(area.area);
      }
    }
    this.city = this.areas.get("city") ?? [...this.areas.values()].find((area) => !area.parent && parents.has(area.area)) ?? null;
  }

  get zone() {
    return this.city?.time_zone ?? [...this.areas.values()][0]?.time_zone ?? "UTC";
  }

  today() {
    return localDay(this.zone, localDate(this.zone, now()));
  }

  dayBefore(day) {
    return localDay(this.zone, addDays(day.date, -1));
  }

  /** Today and yesterday of an area. */
  async loadWindows(area) {
    const day = this.today();
    const span = { start: isoTime(this.dayBefore(day).start), end: isoTime(day.end) };
    const taken = new Windows();
    taken.take(await get(address("/v1/usage", { area, utility: utility(), ...span, grain: "5m" })));
    return taken;
  }

  /** Take in the body of /v1/load; false where it is of another utility. */
  takeLoad(answer) {
    if (answer.utility && answer.utility !== utility()) return false;
    const seconds = answer.seconds ?? 60;
    const [values, counts] = [new Map(), new Map()];
    for (const [area, { quantity, count }] of Object.entries(answer.areas ?? {})) {
      const value = amount(quantity, answer.unit);
      if (value !== null) values.set(area, value * (3600 / seconds));
      counts.set(area, count);
    }
    this.#load = { start: instant(answer.start), seconds, fresh: instant(answer.fresh_until), values, counts, utility: utility() };
    return true;
  }

  /** {start, seconds, fresh, values: Map(area → kWh or m³ per hour), counts}, or null. */
  get load() {
    return this.#load?.utility === utility() ? this.#load : null;
  }

  /** A borough of the map by its name, an area of the registry by its own. */
  key(area) {
    if (this.areas.has(area)) return area;
    return [...this.areas.values()].find((one) => one.title === area)?.area ?? area;
  }

  metersOf(area) {
    return this.areas.get(area)?.channels?.[utility()] ?? 0;
  }

  leavesOf(area) {
    return this.#leavesUnder.get(area) ?? [];
  }

  /** Areas without others below them that have a load, channels or a shape. */
  leaves() {
    const all = new Set([...(this.load?.values.keys() ?? []), ...this.shapes.keys()]);
    return [...all].filter((area) => this.leavesOf(area).every((leaf) => leaf === area));
  }

  /** kWh or m³ per hour in the newest whole minute; null where unknown. */
  rateOf(area) {
    const values = this.load?.values;
    if (!values) return null;
    if (values.has(area)) return values.get(area);
    const known = this.leavesOf(area).filter((leaf) => values.has(leaf));
    return known.length ? known.reduce((sum, leaf) => sum + values.get(leaf), 0) : null;
  }

  /** Of everything there is. */
  total() {
    if (this.city) return this.rateOf(this.city.area);
    const known = this.leaves().map((leaf) => this.rateOf(leaf)).filter((rate) => rate !== null);
    return known.length ? known.reduce((sum, rate) => sum + rate, 0) : null;
  }

  /** As the map is coloured: per meter or in total. */
  shownRate(area) {
    const rate = this.rateOf(area);
    if (rate === null || mode() === "total") return rate;
    return this.metersOf(area) > 0 ? rate / this.metersOf(area) : null;
  }

  scale(largest) {
    return rateScale(utility(), mode() === "meter" ? "meter" : "area", largest);
  }

  titleOf(area) {
    const shape = this.shapes.get(area);
    if (!shape || shape.name === area) return this.areas.get(area)?.title ?? area;
    return `${area} ${shape.name === shape.borough || !shape.borough ? shape.name : `${shape.name}, ${shape.borough}`}`;
  }
}

export const model = new CityModel();
