// Quantities as people read them. Inside the pages an amount is in kWh or m³, a rate is that per hour; null is unknown.

export const DASH = "—";
export const UTILITIES = ["electricity", "gas", "water"];
export const WORDS = { electricity: "Electricity", gas: "Gas", water: "Water" };

const TO_BASE = {
  kwh: 1, wh: 1e-3, mwh: 1e3, kvah: 1, kvarh: 1,
  m3: 1, "m³": 1, l: 1e-3, gal: 3.785411784e-3, ft3: 0.028316846592, "ft³": 0.028316846592, ccf: 2.8316846592,
};

/** A quantity of the API (a decimal, number or text) in kWh or m³. */
export function amount(quantity, unit) {
  if (quantity === null || quantity === undefined || quantity === "") return null;
  const factor = TO_BASE[String(unit).toLowerCase()];
  const value = Number(quantity);
  return factor === undefined || !Number.isFinite(value) ? null : value * factor;
}

/** {unit, factor} in which rates up to `largest` are shown. level: home, area, meter. */
export function rateScale(utility, level, largest = 0) {
  const size = Math.abs(largest ?? 0);
  if (utility === "electricity") {
    if (level !== "area") return { unit: "kW", factor: 1 };
    if (size >= 2e6) return { unit: "GW", factor: 1e-6 };
    return size >= 2e3 ? { unit: "MW", factor: 1e-3 } : { unit: "kW", factor: 1 };
  }
  if (level === "meter") return { unit: "L/h", factor: 1e3 };
  if (level === "home" && utility === "water") return { unit: "L/min", factor: 1e3 / 60 };
  return { unit: "m³/h", factor: 1 };
}

/** {unit, factor} in which amounts up to `largest` are shown. */
export function amountScale(utility, level, largest = 0) {
  const size = Math.abs(largest ?? 0);
  if (utility === "electricity") return size >= 1e4 ? { unit: "MWh", factor: 1e-3 } : { unit: "kWh", factor: 1 };
  if (utility === "water" && level === "home") return { unit: "L", factor: 1e3 };
  return { unit: "m³", factor: 1 };
}

const byDigits = [0, 1, 2, 3].map((digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
const scale3 = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** About three digits that matter, a fixed number of them after the point for numbers of one size. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  const size = Math.abs(value);
  const digits = size === 0 ? 0 : size < 0.1 ? 3 : size < 10 ? 2 : size < 100 ? 1 : 0;
  return byDigits[digits].format(value).replace("-", "−");
}

/** The same, as short as it can be written: for scales. */
export const plain = (value) => scale3.format(value).replace("-", "−");

export const count = (value) => (value === null || value === undefined || !Number.isFinite(Number(value)) ? DASH : grouped.format(Number(value)));

/** 1.2 million, 34.5 thousand kept short: 1.2 M, 34.5 k. */
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(Number(value))) return DASH;
  const size = Math.abs(value);
  if (size >= 9.995e8) return `${number(value / 1e9)} G`;
  if (size >= 9.995e5) return `${number(value / 1e6)} M`;
  return size >= 1e5 ? `${number(value / 1e3)} k` : grouped.format(value);
}

export const scaled = (value, scale) => (value === null || value === undefined ? null : value * scale.factor);
export const shown = (value, scale) => (value === null || value === undefined ? DASH : `${number(value * scale.factor)} ${scale.unit}`);

/** How far a is from b, as "3.1 %" with its direction; null where it cannot be said. */
export function change(a, b) {
  if (a === null || b === null || a === undefined || b === undefined || b === 0) return null;
  const percent = (100 * (a - b)) / Math.abs(b);
  const size = Math.abs(percent);
  const text = size < 0.05 ? "0" : size < 10 ? size.toFixed(1) : size > 999 ? "> 999" : Math.round(size).toString();
  return { percent, text: `${text} %`, direction: size < 0.05 ? "same" : percent > 0 ? "more" : "less" };
}

const MARKS = {
  A: ["valid", "raw", "validated", "verified", "revenue", "actual"],
  E: ["estimated", "reference day", "linear", "derived", "forecast", "weather"],
  S: ["edited", "substituted"],
  L: ["late"],
  Q: ["questionable"],
};
const CODES = { 0: "A", 7: "S", 8: "E", 9: "E", 10: "Q", 11: "E", 12: "E", 14: "A", 17: "A", 18: "A", 19: "A" }; // ESPI
const BY_WORD = new Map(Object.entries(MARKS).flatMap(([mark, words]) => words.map((word) => [word, mark])));
export const MARK_WORDS = { A: "actual", E: "estimated", S: "substituted", L: "late", Q: "questionable" };

/** The mark of a row's quality: A, E, S, L, Q; null where the API gives none. */
export function markOf(row) {
  if (row.late === true) return "L";
  const quality = row.quality;
  if (quality === null || quality === undefined) return null;
  if (typeof quality === "number") return CODES[quality] ?? null;
  if (typeof quality === "object") return ["Q", "S", "E", "L", "A"].find((mark) => MARKS[mark].some((word) => quality[word] > 0)) ?? null;
  const word = String(quality).toLowerCase().replaceAll("_", " ");
  return BY_WORD.get(word) ?? CODES[word] ?? (MARK_WORDS[String(quality).toUpperCase()] ? String(quality).toUpperCase() : null);
}
