// One exception beside the list: what is wrong, its values measured and in force, and what happened to it.

import { get } from "./api.js";
import { element, one, write } from "./dom.js";
import { overlayChart } from "./overlay.js";
import { clock, instant, localDate } from "./time.js";
import { number } from "./units.js";
import { channelLink } from "./worklistrows.js";

const box = one("[data-one]");
const zones = new Map();

/** The time zone of a channel. */
async function zoneOf(channel) {
  if (!zones.has(channel)) zones.set(channel, (await get(`/v1/channels/${encodeURIComponent(channel)}`)).time_zone ?? "UTC");
  return zones.get(channel);
}

let shown = null;

export function closeOne() {
  shown = null;
  box.hidden = true;
  one("[data-desk]").classList.remove("with-one");
}

export async function showOne(wanted) {
  shown = wanted;
  box.hidden = false;
  one("[data-desk]").classList.add("with-one");
  try {
    const row = await get(`/v1/exceptions/${encodeURIComponent(wanted)}`);
    const zone = await zoneOf(row.channel);
    if (shown !== wanted) return;
    fill(row, zone);
  } catch (error) {
    if (shown !== wanted) return;
    write(one("[data-one-title]"), `Exception ${wanted}`);
    write(one("[data-one-words]"), error.message);
    one("[data-one-body]").hidden = true;
  }
}

function fill(row, zone) {
  box.dataset.utility = row.utility;
  one("[data-one-body]").hidden = false;
  write(one("[data-one-title]"), `${row.title} · ${row.rule}`);
  write(one("[data-one-words]"), row.words);
  const at = (text) => `${localDate(zone, instant(text))} ${clock(zone, instant(text))}`;
  const facts = [
    ["Channel", element("a", { href: channelLink(row) }, row.channel)],
    ["From", at(row.start)], ["Until", at(row.end)],
    ["At stake", `${number(Number(row.quantity))} ${row.unit}`],
    ["Area", row.area ? element("a", { href: `/?area=${encodeURIComponent(row.area)}` }, row.area) : "—"],
    ["State", row.state === "resolved" ? `resolved: ${row.resolution}` : row.state === "assigned" ? `with ${row.assignee}` : "waits"],
  ];
  one("[data-one-facts]").replaceChildren(...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const rows = row.intervals.map((one) => ({ ...one, measured: one.raw }));
  const seconds = row.seconds;
  const [start, end] = [instant(rows[0].start), instant(rows.at(-1).start) + seconds * 1000];
  one("#one-chart").show(overlayChart({ zone, start, end, seconds, unit: row.unit, rows, band: [instant(row.start), instant(row.end)] }));
  one("[data-one-actions]").hidden = row.state === "resolved";
  one("[data-one-history]").replaceChildren(...row.history.map((event) => element("li", {},
    element("b", {}, event.event), event.author ? ` by ${event.author}` : "", event.change ? ` (change ${event.change})` : "", event.note ? `: ${event.note}` : "",
    element("time", { datetime: event.at }, at(event.at)))));
  one("[data-one-json]").href = `/v1/exceptions/${row.number}`;
}
