// One exception as a row of the work list.

import { element } from "./dom.js";
import { ago, instant } from "./time.js";
import { number } from "./units.js";

export const ageText = (row, now) => ago(now - instant(row.opened)).replace(" ago", "");

/** A row; `chosen` is whether it is selected. */
export function rowOf(row, { chosen, now }) {
  const spark = element("mp-spark", { role: "img", "aria-label": `values around: ${row.words}` });
  const label = `Exception ${row.number}, ${row.title}, ${row.channel}`;
  const line = element("li", { class: "exception", "data-number": row.number, "data-utility": row.utility, "data-state": row.state, tabindex: "-1", "aria-label": label },
    element("label", { class: "tick" }, element("input", { type: "checkbox", "data-tick": true, ".checked": chosen, tabindex: "-1", disabled: row.state === "resolved", "aria-label": `Select exception ${row.number}` })),
    element("button", { type: "button", class: "what", "data-open": true, tabindex: "-1" },
      element("span", { class: "rule" }, element("code", {}, row.rule), element("b", {}, row.title), stateOf(row)),
      element("span", { class: "words" }, row.words)),
    spark,
    element("span", { class: "where" }, element("a", { href: channelLink(row), tabindex: "-1" }, row.channel), element("small", {}, [row.area, when(row)].filter(Boolean).join(" · "))),
    element("span", { class: "stake" }, element("b", {}, `${number(Number(row.quantity))} ${row.unit}`), element("small", {}, `worth ${number(row.weight)}`)),
    element("span", { class: "age", title: `since ${row.opened}` }, ageText(row, now)));
  fillSpark(spark, row);
  return line;
}

export const channelLink = (row) => `/channel/${encodeURIComponent(row.channel)}?from=${row.start}&to=${row.end}`;

const when = (row) => `${row.start.slice(5, 10)} ${row.start.slice(11, 16)}Z`;

function stateOf(row) {
  if (row.state === "open") return null;
  const word = row.state === "assigned" ? row.assignee : row.resolution === "gone" ? "gone" : row.resolution;
  return element("span", { class: `chip ${row.state}` }, word);
}

function fillSpark(spark, row) {
  const { around } = row;
  if (!around) return;
  const step = around.seconds * 1000;
  const place = (text) => (instant(text) - instant(around.start)) / step;
  spark.span = [Math.max(0, place(row.start)), Math.min(around.measured.length, place(row.end))];
  spark.values = around.measured.map((value, i) => (value === null ? around.effective[i] : value)).map((value) => (value === null ? null : Number(value)));
}
