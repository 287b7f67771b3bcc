// What was measured and what stands, of one channel over any span, as <mp-chart> takes it.

import { clock, HOUR, instant, localDate } from "./time.js";
import { markOf, MARK_WORDS, number } from "./units.js";
import { element } from "./dom.js";

/**
 * rows: [{start, measured, effective, quality, mark}] oldest first, each `seconds` long, null = no value; `band` [from, to] in
 * ms is shaded. What stands is a filled line, what was measured a dashed one where it differs.
 */
export function overlayChart({ zone, start, end, seconds, unit, rows, band = null, proposed = false }) {
  const at = new Map(rows.map((row) => [instant(row.start), row]));
  const starts = [];
  for (let ms = start; ms < end; ms += seconds * 1000) starts.push(ms);
  const all = starts.map((ms) => at.get(ms) ?? null);
  const value = (name) => all.map((row) => (row?.[name] === null || row?.[name] === undefined ? null : Number(row[name])));
  const [measured, effective] = [value("measured"), value("effective")];
  const differs = all.map((_, i) => measured[i] !== effective[i]);
  // a dashed piece joins what stands on both sides, so that a single interval is seen too
  const aside = measured.map((one, i) => (differs[i] || differs[i - 1] || differs[i + 1] ? one : null));
  const words = (row) => {
    const mark = row && markOf(row);
    return mark ? element("span", { class: "quality" }, element("span", { class: "mark", "data-mark": mark }), row.quality === "raw" ? MARK_WORDS[mark] : row.quality) : "—";
  };
  const shown = (one) => (one === null ? "no value" : number(one));
  const series = [{ key: "effective", name: "Stands", style: "straight", values: effective }];
  if (differs.some(Boolean) && aside.some((one) => one !== null)) series.push({ key: "measured", name: "Measured", style: "dashed", values: aside });
  if (proposed) series.push({ key: "proposed", name: "Proposed", style: "dotted", values: value("proposed") });
  const told = rows.some((row) => row.known_at || row.method); // the record says how and since when
  const total = (values) => values.reduce((sum, one) => sum + (one ?? 0), 0);
  const unknown = effective.filter((one) => one === null).length;
  return {
    span: (end - start) / 1000,
    ticks: ticks(zone, start, end),
    x: starts.map((ms) => (ms - start) / 1000 + seconds / 2),
    unit: `${unit} per ${length(seconds)}`,
    format: (one) => `${number(one)} ${unit}`,
    series,
    band: band && band.map((ms) => (Math.min(Math.max(ms, start), end) - start) / 1000),
    missing: spans(effective.map((one) => one === null), seconds),
    marks: marked(all, seconds),
    now: null,
    clock: (i) => `${clock(zone, starts[i])} – ${clock(zone, starts[i] + seconds * 1000)}`,
    tipNote: (i) => (all[i] && markOf(all[i]) !== "A" ? (all[i].quality ?? "") : ""),
    empty: effective.some((one) => one !== null) || measured.some((one) => one !== null) ? null : "No values here.",
    sentence: `${number(total(effective))} ${unit}${differs.some(Boolean) ? ` stand, ${number(total(measured))} ${unit} were measured` : ""}${unknown ? `; ${unknown} of ${all.length} intervals have no value` : ""}.`,
    columns: [{ title: "From" }, { title: `Measured, ${unit}`, number: true }, { title: `Stands, ${unit}`, number: true }, { title: "Quality" }, ...(told ? [{ title: "How" }, { title: "Known since" }] : [])],
    rows: all.map((row, i) => [`${localDate(zone, starts[i])} ${clock(zone, starts[i])}`, shown(measured[i]), shown(effective[i]), words(row),
      ...(told ? [row?.method?.replaceAll("_", " ") ?? "", row?.known_at?.slice(0, 16).replace("T", " ").concat("Z") ?? ""] : [])]),
  };
}

const length = (seconds) => (seconds % 3600 === 0 ? (seconds === 3600 ? "hour" : `${seconds / 3600} h`) : `${seconds / 60} min`);

/** [[from, to]] in seconds, of neighbours that hold. */
function spans(holds, seconds) {
  const found = [];
  holds.forEach((it, i) => {
    if (!it) return;
    if (i > 0 && holds[i - 1]) found.at(-1)[1] = (i + 1) * seconds;
    else found.push([i * seconds, (i + 1) * seconds]);
  });
  return found;
}

function marked(all, seconds) {
  const found = [];
  all.forEach((row, i) => {
    const mark = row && row.effective !== null ? markOf(row) : null;
    if (!mark || mark === "A") return;
    if (found.at(-1)?.to === i * seconds && found.at(-1).mark === mark) found.at(-1).to = (i + 1) * seconds;
    else found.push({ from: i * seconds, to: (i + 1) * seconds, mark });
  });
  return found;
}

/** Round hours of the zone's clock; midnight says its day. */
function ticks(zone, start, end) {
  const every = end - start > 30 * HOUR ? 6 : 3;
  const found = [];
  for (let at = Math.ceil(start / (HOUR / 4)) * (HOUR / 4); at <= end; at += HOUR / 4) {
    const text = clock(zone, at);
    if (!text.endsWith(":00") || Number(text.slice(0, 2)) % every) continue;
    found.push({ at: (at - start) / 1000, label: text === "00:00" ? localDate(zone, at).slice(5) : text });
  }
  return found;
}
