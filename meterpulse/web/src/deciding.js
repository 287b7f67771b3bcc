// Deciding about values: preview as a difference, commit with author and reason, undo. One <dialog> for all of it.

import { post } from "./api.js";
import { element, one, write } from "./dom.js";
import { plural } from "./plural.js";
import { number } from "./units.js";

export const ACTIONS = {
  interpolate: { word: "Interpolate", key: "i", says: "A straight line between the values on both sides." },
  "copy week": { word: "Copy week", key: "c", says: "The values of the same hours a week before." },
  "accept raw": { word: "Accept measured", key: "a", says: "The measured values stand, as verified." },
  "accept estimate": { word: "Accept estimate", key: "e", says: "The estimated values stand." },
  set: { word: "Set", key: "s", says: "A value of your own for every interval." },
  leave: { word: "Leave", key: "l", says: "Nothing changes; it no longer waits." },
};

const dialog = one("[data-decide]");
const part = (name) => one(`[data-${name}]`, dialog);
const AUTHOR = "meterpulse.author";
let resolve = null;
let plan = null; // what is asked: {title, says, preview, commit}
let seen = null; // the newest preview

/** Lets a person preview and commit an action on `which` ({exceptions} | {filter} | {channel, start, end}); gives the answer or null. */
export const decide = (action, which, name) => open({
  title: `${ACTIONS[action].word} · ${name}`,
  says: ACTIONS[action].says,
  values: action === "set",
  word: ACTIONS[action].word,
  preview: (values) => post("/v1/edits/preview", { ...which, action, ...values }),
  commit: (who, values) => post("/v1/edits", { ...which, action, ...values, ...who, fingerprint: seen.fingerprint }),
});

/** Lets a person take a change back; gives the answer or null. */
export const undo = (change, name) => open({
  title: `Undo change ${change}`,
  says: `${name} Its values are no longer in force, its exceptions wait again, and both stay told.`,
  word: "Undo",
  commit: (who) => post(`/v1/edits/${change}/undo`, who),
});

/** Lets a person give exceptions to somebody; gives the answer or null. */
export const assign = (exceptions, names) => open({
  title: `Assign ${exceptions.length === 1 ? `exception ${exceptions[0]}` : `${exceptions.length} exceptions`}`,
  says: "Left empty they go back to the queue.",
  word: "Assign",
  assignee: names,
  commit: (who) => post("/v1/exceptions/assign", { exceptions, assignee: part("assignee").value.trim() || null, author: who.author }),
});

function open(what) {
  plan = what;
  seen = null;
  write(part("title"), plan.title);
  write(part("says"), plan.says);
  write(part("commit"), plan.word);
  part("diff").replaceChildren();
  part("values-field").hidden = !plan.values;
  part("assignee-field").hidden = !plan.assignee;
  part("reason-field").hidden = Boolean(plan.assignee);
  part("reason").required = !plan.assignee;
  part("assignees").replaceChildren(...(plan.assignee ?? []).map((name) => element("option", { value: name })));
  part("values").value = "";
  part("author").value ||= localStorage.getItem(AUTHOR) ?? "";
  say("");
  ready();
  dialog.showModal();
  (plan.values ? part("values") : plan.assignee ? part("assignee") : part("author").value ? part("reason") : part("author")).focus();
  if (plan.preview && !plan.values) preview();
  return new Promise((done) => (resolve = done));
}

const given = () => (plan.values ? { values: part("values").value.trim().split(/[\s;]+/) } : {});
const ready = () => { part("commit").disabled = Boolean(plan.preview) && !seen?.count; };

function say(text) {
  write(part("error"), text);
  part("error").hidden = !text;
}

async function preview() {
  const asked = plan;
  seen = null;
  ready();
  write(part("diff"), "Looking at what would change…");
  try {
    const found = await asked.preview(given());
    if (asked !== plan) return;
    seen = found;
    say("");
    part("diff").replaceChildren(...difference(seen));
  } catch (error) {
    if (asked !== plan) return;
    part("diff").replaceChildren();
    say(error.message);
  }
  ready();
}

/** What a preview says, as elements. */
function difference(found) {
  const word = found.items.length ? (found.items[0].number === undefined ? "span" : "exception") : "exception";
  const happens = !found.count ? "Not possible for any of these." : found.intervals ? `${plural(found.count, word)}, ${plural(found.intervals, "interval")}.` : `${plural(found.count, word)}; no value changes.`;
  const totals = (found.intervals ? found.totals : []).map((total) => element("div", { class: "total-line", "data-utility": total.utility },
    element("b", {}, `${number(Number(total.before))} → ${number(Number(total.after))} ${total.unit}`),
    element("span", {}, `${total.utility}, ${signed(total.difference)} ${total.unit}; single intervals move by ${number(Number(total.moved))} ${total.unit}`)));
  const refused = found.refused.map((item) => element("li", {}, element("b", {}, item.channel), ` ${short(item.start)}: ${item.reason}`));
  const more = found.refused_count - found.refused.length;
  return [
    element("p", { class: "counted" }, happens),
    ...totals,
    refused.length ? element("div", { class: "refused" }, element("p", {}, `${plural(found.refused_count, word)} ${found.refused_count === 1 ? "stays as it is" : "stay as they are"}:`), element("ul", {}, ...refused, more > 0 ? element("li", {}, `and ${more} more`) : null)) : null,
    found.items.length ? diffTable(found) : null,
  ].filter(Boolean);
}

function diffTable(found) {
  const rows = found.items.flatMap((item) => item.intervals.map((row) => ({ item, row }))).slice(0, 400);
  const cell = (value) => (value === null ? "no value" : number(Number(value)));
  return element("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": "What would change" },
    element("table", {}, element("caption", {}, "What would change"),
      element("thead", {}, element("tr", {}, ...["Channel", "From", "Measured", "Stands", "Would be"].map((title, i) => element("th", { scope: "col", class: i > 1 && "n" }, title)))),
      element("tbody", {}, ...rows.map(({ item, row }) => element("tr", { class: row.proposed !== row.effective && "changes" },
        element("th", { scope: "row" }, item.channel), element("td", {}, short(row.start)), element("td", { class: "n" }, cell(row.raw)),
        element("td", { class: "n" }, cell(row.effective)), element("td", { class: "n" }, element("b", {}, cell(row.proposed)), ` ${item.unit}`))))));
}

const short = (text) => text.slice(0, 16).replace("T", " ") + "Z";
const signed = (value) => (Number(value) > 0 ? `+${number(Number(value))}` : number(Number(value)));

dialog.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (plan.preview && !seen) return preview();
  const who = { author: part("author").value.trim(), reason: part("reason").value.trim() };
  if (!who.author) return part("author").focus();
  localStorage.setItem(AUTHOR, who.author);
  part("commit").disabled = true;
  try {
    const answer = await plan.commit(who, given());
    part("reason").value = "";
    finish(answer);
  } catch (error) {
    if (error.status === 409 && plan.preview) await preview();
    else ready();
    say(error.message);
    if (!plan.preview) part("commit").disabled = false;
  }
});

function finish(answer) {
  const done = resolve;
  resolve = null;
  plan = { ...plan };
  dialog.close();
  done?.(answer);
}
part("values").addEventListener("change", preview);
part("cancel").addEventListener("click", () => finish(null));
dialog.addEventListener("cancel", (event) => {
  event.preventDefault();
  finish(null);
});
