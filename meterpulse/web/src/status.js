// The platform page: what comes in, how far behind, what was refused.

import "./chart.js";
import { address, get, Live, now } from "./api.js";
import { element, one, table, write } from "./dom.js";
import { search, stamp, watchConnection } from "./frame.js";
import { ago, instant, isoTime } from "./time.js";
import { count, DASH, number, short } from "./units.js";

const SPAN_S = 300;
let points = []; // {at, rate}

function show(status) {
  const at = now();
  const rate = status.readings_per_second;
  points = [...points.filter((point) => point.at > at - SPAN_S * 1000), { at, rate: typeof rate === "number" ? rate : null }];
  const x = points.map((point) => SPAN_S - (at - point.at) / 1000);
  one("#rate-chart").show({
    span: SPAN_S, ticks: [0, 60, 120, 180, 240, 300].map((s) => ({ at: s, label: s === 300 ? "now" : `−${(300 - s) / 60} min` })),
    x, unit: "readings/s", format: (value) => `${count(Math.round(value))} readings/s`, now: null, missing: [],
    series: [{ key: "rate", name: "Accepted", style: "area", values: points.map((point) => point.rate) }],
    clock: (i) => ago(at - points[i].at),
    sentence: rate === undefined || rate === null ? "" : `${count(Math.round(rate))} readings per second now.`,
    columns: [{ title: "When" }, { title: "Readings/s", number: true }],
    rows: points.filter((_, i) => i % 5 === points.length % 5).map((point) => [new Date(point.at).toISOString().slice(11, 19), count(point.rate === null ? null : Math.round(point.rate))]).reverse(),
  });
  stamp(one("[data-rate-stamp]"), at);
  const lag = status.lag ?? {};
  const watermark = instant(status.watermark);
  const dirty = Array.isArray(status.dirty_days) ? status.dirty_days.length : status.dirty_days;
  const tiles = [
    ["Accepted", short(status.accepted), "readings, on disk before they were acknowledged"],
    ["Lag", lag.seconds === undefined || lag.seconds === null ? DASH : `${number(lag.seconds)} s`, `${count(lag.readings)} readings are not in every answer yet`],
    ["Channels", short(status.channels), "registered"],
    ["Watermark", watermark === null ? DASH : ago(now() - watermark), watermark === null ? "no event time yet" : isoTime(watermark)],
    ["Late", short(status.late), "kept, and their day is rebuilt"],
    ["Duplicates", short(status.duplicates), "sent again, counted once"],
    ["Quarantined", short(status.quarantined), "refused with a reason, bytes kept"],
    ["Days to rebuild", count(dirty), Array.isArray(status.dirty_days) && dirty ? status.dirty_days.slice(0, 3).join(", ") : "received readings after their last rebuild"],
  ];
  one("[data-tiles]").replaceChildren(...tiles.map(([name, value, note]) => element("div", { class: "card tile" }, element("dt", {}, name), element("dd", {}, value), element("dd", { class: "note" }, note))));
  const behind = lag.readings === 0 && !dirty;
  write(one("[data-sentence]"), behind ? "Every accepted reading is in every answer." : "Some accepted readings are still on their way into the answers.");
}

async function showQuarantine() {
  const box = one("[data-quarantine]");
  try {
    const answer = await get(address("/v1/quarantine", { limit: 20 }));
    const rows = Array.isArray(answer) ? answer : (answer.rows ?? []);
    if (!rows.length) {
      box.replaceChildren(element("p", { class: "chart-empty" }, "Nothing has been refused."));
      return;
    }
    const text = (row) => String(row.original ?? row.bytes ?? "").slice(0, 120);
    box.replaceChildren(element("div", { class: "table-box", tabindex: "0" }, table("Refused rows", [{ title: "Reason" }, { title: "Detail" }, { title: "Original" }], rows.map((row) => [row.reason ?? DASH, row.detail ?? "", element("code", {}, text(row))]))));
  } catch (error) {
    box.replaceChildren(element("p", { class: "chart-empty" }, `The list can't be read: ${error.message}.`));
  }
}

const live = new Live({ status: show }, (again) => again && showQuarantine());
watchConnection(() => live.retry());
search();
get("/v1/status").then(show).catch(() => {});
showQuarantine();
live.open({});
