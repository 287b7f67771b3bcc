// The work list: what rules found wrong, narrowed, selected, decided about; one exception beside it; the ledger below.

import "./chart.js";
import "./spark.js";
import { address, get, now } from "./api.js";
import { ACTIONS, assign, decide, undo } from "./deciding.js";
import { all, element, one, segmented, typing, write } from "./dom.js";
import { onKey, search, stamp, watchConnection } from "./frame.js";
import { showLedger } from "./ledger.js";
import { plural } from "./plural.js";
import { state } from "./state.js";
import { HOUR, isoTime } from "./time.js";
import { count, number } from "./units.js";
import { closeOne, showOne } from "./worklistone.js";
import { rowOf } from "./worklistrows.js";

const PAGE = 50;
const list = one("[data-rows]");
let page = { exceptions: [], next: null, counts: [] };
let facets = [];
const chosen = new Set();
let everything = false; // all that match, also those that are not on the page
let cursor = 0;

// --- what is asked ------------------------------------------------------------------------------------------------------

const stateWanted = () => state.get("state", "waiting");

function filters() {
  const days = Number(state.get("age"));
  return {
    ...Object.fromEntries(["rule", "utility", "area", "assignee", "channel"].map((name) => [name, state.get(name)])),
    opened_before: days > 0 ? isoTime(Math.floor((now() - days * 24 * HOUR) / 1000) * 1000) : null,
  };
}

const parameters = () => ({ ...filters(), state: stateWanted() === "all" ? null : stateWanted(), sort: state.get("sort", "weight") });

let asked = 0;
async function load({ after = null } = {}) {
  const mine = ++asked;
  try {
    const wanted = parameters();
    const [found, other] = await Promise.all([
      get(address("/v1/exceptions", { ...wanted, limit: PAGE, around: "values", after })),
      get(address("/v1/exceptions", { ...wanted, rule: null, limit: 1 })),
    ]);
    if (mine !== asked) return;
    page = after ? { ...found, exceptions: [...page.exceptions, ...found.exceptions] } : found;
    facets = other.counts;
    for (const number of chosen) if (!page.exceptions.some((row) => row.number === number)) chosen.delete(number);
    show();
    stamp(one("[data-list-stamp]"), now(), { before: "as of " });
  } catch (error) {
    if (mine !== asked) return;
    showEmpty("The work list can't be read", error.message);
  }
}

// --- showing ------------------------------------------------------------------------------------------------------------

const totalOf = (counts) => counts.reduce((sum, row) => sum + row.count, 0);

function show() {
  const total = totalOf(page.counts);
  const weight = page.counts.reduce((sum, row) => sum + row.weight, 0) / 1000;
  write(one("[data-sentence]"), total ? `${plural(total, "exception")}, worth ${number(weight)} in all` : "");
  showRules();
  showChoices();
  const shown = page.exceptions.findIndex((row) => String(row.number) === state.get("n"));
  cursor = shown >= 0 ? shown : Math.min(cursor, Math.max(0, page.exceptions.length - 1));
  list.replaceChildren(...page.exceptions.map((row) => rowOf(row, { chosen: chosen.has(row.number), now: now() })));
  if (total) one("[data-empty]").hidden = true;
  else if (isNarrow()) showEmpty("None of that kind", "Nothing matches these filters.", element("button", { type: "button", class: "quiet", ".onclick": widen }, "Show all that wait"));
  else showEmpty("Nothing waits", "Every value that came in passed its rules, or somebody has decided about it.");
  one("[data-list]").hidden = !total;
  one("[data-more]").hidden = page.next === null;
  write(one("[data-more]"), `Show more (${count(page.exceptions.length)} of ${count(total)})`);
  one("[data-list] [data-as=csv]").href = address("/v1/exceptions.csv", { ...parameters(), limit: 1000 });
  one("[data-list] [data-as=json]").href = address("/v1/exceptions", { ...parameters(), limit: 1000 });
  mark();
}

const NARROWING = ["rule", "utility", "area", "assignee", "channel", "age", "state"];
const isNarrow = () => NARROWING.some((name) => state.get(name));
const widen = () => state.set(Object.fromEntries(NARROWING.map((name) => [name, null])));

function showEmpty(title, text, ...more) {
  const box = one("[data-empty]");
  box.replaceChildren(element("p", {}, element("b", {}, title)), element("p", {}, text), ...more);
  box.hidden = false;
  one("[data-list]").hidden = true;
}

function showRules() {
  const rules = new Map();
  for (const row of facets) {
    const known = rules.get(row.rule) ?? { title: row.title, count: 0 };
    rules.set(row.rule, { ...known, count: known.count + row.count });
  }
  const wanted = state.get("rule");
  if (wanted && !rules.has(wanted)) rules.set(wanted, { title: "", count: 0 });
  one("[data-rules]").replaceChildren(...[...rules].map(([rule, { title, count: n }]) =>
    element("button", { type: "button", class: "facet", "aria-pressed": String(rule === wanted), ".onclick": () => state.set({ rule: rule === wanted ? null : rule }) },
      element("code", {}, rule), ` ${title} `, element("b", {}, count(n)))));
}

function showChoices() {
  const people = [...new Set([...facets.map((row) => row.assignee), state.get("assignee")].filter(Boolean))].sort();
  const select = one("[data-filter=assignee]");
  select.replaceChildren(element("option", { value: "" }, "Anybody"), ...people.map((name) => element("option", { value: name }, name)));
  for (const field of all("[data-filter]")) if (document.activeElement !== field) field.value = state.get(field.dataset.filter, "");
  markState(stateWanted());
  markSort(state.get("sort", "weight"));
}

/** Cursor, ticks and the bar of actions. */
function mark() {
  const rows = all(".exception", list);
  rows.forEach((row, i) => {
    const number = Number(row.dataset.number);
    row.toggleAttribute("data-cursor", i === cursor);
    row.tabIndex = i === cursor ? 0 : -1;
    row.toggleAttribute("data-chosen", everything || chosen.has(number));
    one("[data-tick]", row).checked = everything || chosen.has(number);
    row.toggleAttribute("data-shown", String(number) === state.get("n"));
  });
  const waiting = page.exceptions.filter((row) => row.state !== "resolved");
  const total = totalOf(page.counts.filter((row) => row.state !== "resolved"));
  const n = everything ? total : chosen.size;
  write(one("[data-chosen-word]"), n ? `${count(n)} selected` : "None selected");
  const tick = one("[data-tick-all]");
  tick.checked = n > 0 && (everything || chosen.size === waiting.length);
  tick.indeterminate = n > 0 && !tick.checked;
  tick.disabled = !waiting.length;
  const offer = one("[data-everything]");
  offer.hidden = everything || !waiting.length || chosen.size !== waiting.length || total <= waiting.length;
  write(offer, `Select all ${count(total)}`);
  for (const button of all("[data-act]", one("[data-bar]"))) button.disabled = !n;
}

// --- acting -------------------------------------------------------------------------------------------------------------

/** What an action is about: everything that matches, what is selected, or the row under the cursor. */
function subject() {
  if (everything) return { which: { filter: clean(filters()) }, name: `all ${count(totalOf(page.counts.filter((row) => row.state !== "resolved")))} that match` };
  const numbers = chosen.size ? [...chosen] : [page.exceptions[cursor]].filter((row) => row && row.state !== "resolved").map((row) => row.number);
  return numbers.length ? { which: { exceptions: numbers }, name: numbers.length === 1 ? `exception ${numbers[0]}` : plural(numbers.length, "exception") } : null;
}

const clean = (given) => Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));

async function act(action, about = subject()) {
  if (!about || one("[data-decide]").open) return;
  let answer;
  if (action === "assign") {
    const numbers = about.which.exceptions ?? page.exceptions.filter((row) => row.state !== "resolved").map((row) => row.number);
    answer = await assign(numbers, [...new Set(facets.map((row) => row.assignee).filter(Boolean))]);
    if (answer) toast(`${plural(answer.assigned, "exception")} ${answer.assignee ? `assigned to ${answer.assignee}` : "back in the queue"}.`);
  } else {
    answer = await decide(action, about.which, about.name);
    if (answer) {
      const left = answer.refused_count ? `, ${count(answer.refused_count)} left as they are` : "";
      toast(`Change ${answer.change}: ${plural(answer.resolved, "exception")} resolved${left}.`, answer.change);
    }
  }
  focusRow();
  if (!answer) return;
  chosen.clear();
  everything = false;
  await refresh();
}

async function takeBack(change, name = "") {
  if (one("[data-decide]").open) return;
  const answer = await undo(change, name);
  if (!answer) return;
  toast(`Change ${change} is undone; ${answer.days.length ? `${plural(answer.days.length, "day")} will be built again` : "no day changes"}.`);
  await refresh();
}

async function refresh() {
  await Promise.all([load(), showLedger(takeBack), showShown()]);
  focusRow();
}

let last = null;
function toast(text, change = null) {
  last = change;
  const box = one("[data-toast]");
  box.replaceChildren(element("span", {}, text), ...(change ? [element("button", { type: "button", ".onclick": () => takeBack(change) }, "Undo")] : []), element("button", { type: "button", class: "icon", "aria-label": "Close", ".onclick": () => { box.hidden = true; } }, "×"));
  box.hidden = false;
}

const focusRow = () => all(".exception", list)[cursor]?.focus({ preventScroll: false });

// --- choosing -----------------------------------------------------------------------------------------------------------

function toggle(number) {
  if (everything) for (const row of page.exceptions) if (row.state !== "resolved") chosen.add(row.number);
  everything = false;
  if (page.exceptions.find((row) => row.number === number)?.state === "resolved") return;
  if (!chosen.delete(number)) chosen.add(number);
  mark();
}

function move(step) {
  cursor = Math.max(0, Math.min(page.exceptions.length - 1, cursor + step));
  mark();
  focusRow();
  if (state.get("n")) openRow(page.exceptions[cursor]?.number);
}

const openRow = (number) => number && state.set({ n: String(number) });

list.addEventListener("click", (event) => {
  const row = event.target.closest(".exception");
  if (!row) return;
  cursor = all(".exception", list).indexOf(row);
  if (event.target.closest("a")) return;
  if (event.target.closest(".tick")) {
    if (event.target.matches("input")) toggle(Number(row.dataset.number));
  } else openRow(row.dataset.number);
  mark();
});
one("[data-tick-all]").addEventListener("change", (event) => {
  everything = false;
  chosen.clear();
  if (event.target.checked) for (const row of page.exceptions) if (row.state !== "resolved") chosen.add(row.number);
  mark();
});
one("[data-everything]").addEventListener("click", () => {
  everything = true;
  mark();
});
one("[data-more]").addEventListener("click", () => load({ after: page.next }));
for (const button of all("[data-act]")) {
  button.addEventListener("click", () => act(button.dataset.act, button.closest("[data-one]") ? { which: { exceptions: [Number(state.get("n"))] }, name: `exception ${state.get("n")}` } : subject()));
}

// --- filters, keys ------------------------------------------------------------------------------------------------------

const markState = segmented(one("[data-states]"), (value) => state.set({ state: value === "waiting" ? null : value }));
const markSort = segmented(one("[data-sorts]"), (value) => state.set({ sort: value === "weight" ? null : value }));
for (const field of all("[data-filter]")) field.addEventListener("change", () => state.set({ [field.dataset.filter]: field.value.trim() || null }));

for (const [key, step] of [["ArrowDown", 1], ["j", 1], ["ArrowUp", -1], ["k", -1]]) {
  onKey(key, (event) => (one("[data-decide]").open || typing(event) || event.target.closest?.("[role=radio], .table-box") ? false : move(step)));
}
onKey(" ", (event) => {
  if (one("[data-decide]").open || event.target.closest?.("button, a, input, summary, [role=radio]")) return false;
  const row = page.exceptions[cursor];
  if (row) toggle(row.number);
});
onKey("Enter", (event) => (event.target.closest?.(".exception") === event.target ? openRow(page.exceptions[cursor]?.number) : false));
onKey("Escape", () => (one("[data-decide]").open ? false : state.get("n") ? state.set({ n: null }) : (chosen.clear(), (everything = false), mark())));
for (const [action, { key }] of Object.entries(ACTIONS)) onKey(key, () => act(action));
onKey("g", () => act("assign"));
onKey("u", () => (last ? takeBack(last) : false));

// --- address ------------------------------------------------------------------------------------------------------------

async function showShown() {
  const number = state.get("n");
  if (number) await showOne(number);
  else closeOne();
}

let before = null;
function follow() {
  const filter = JSON.stringify([...NARROWING, "sort"].map((name) => state.get(name)));
  if (filter !== before) {
    if (before !== null) {
      chosen.clear();
      everything = false;
      cursor = 0;
    }
    before = filter;
    load();
  } else mark();
  showShown();
}

one("[data-one-close]").addEventListener("click", () => {
  state.set({ n: null });
  focusRow();
});
watchConnection(() => location.reload());
search();
state.onChange(follow);
follow();
showLedger(takeBack);
setInterval(() => {
  if (!chosen.size && !everything && !document.hidden && !one("[data-decide]").open && page.exceptions.length <= PAGE) load();
}, 60_000);
