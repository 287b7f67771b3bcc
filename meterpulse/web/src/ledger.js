// Who decided what, when and why: the ledger of changes, the newest first, each to be undone.

import { address, get } from "./api.js";
import { element, one, write } from "./dom.js";
import { plural } from "./plural.js";

const MOST = 20;

/** Fills the card; `takeBack(change, name)` undoes one. `channel` narrows it to what concerns a channel. */
export async function showLedger(takeBack, channel = null) {
  const box = one("[data-ledger]");
  const list = element("ol", { class: "ledger" });
  const more = element("button", { type: "button", class: "quiet", ".onclick": () => add() }, "Show older ones");
  let before = null;
  const add = async () => {
    try {
      const found = await get(address("/v1/edits", { limit: MOST, channel, before }));
      list.append(...found.changes.map((change) => entry(change, takeBack)));
      before = found.next;
      if (!list.children.length) box.replaceChildren(element("p", { class: "chart-empty" }, "Nobody has decided anything yet."));
      else box.replaceChildren(list, ...(before === null ? [] : [more]));
    } catch (error) {
      write(box, `The decisions can't be read: ${error.message}.`);
    }
  };
  await add();
}

function entry(change, takeBack) {
  const about = [change.channels.slice(0, 3).join(", "), change.channels.length > 3 ? "…" : ""].join("");
  const what = change.undoes ? `undid change ${change.undoes}` : `${change.action}${change.values ? `, ${plural(change.values, "value")}` : ""}`;
  const undoable = !change.undoes && !change.undone;
  return element("li", { "data-undone": change.undone !== null },
    element("span", { class: "number" }, `#${change.change}`),
    element("span", { class: "did" }, element("b", {}, change.author), ` ${what}`, about ? element("small", {}, ` ${about}`) : null, element("q", {}, change.reason)),
    element("time", { datetime: change.at }, change.at.slice(0, 16).replace("T", " ") + "Z"),
    undoable ? element("button", { type: "button", class: "quiet", ".onclick": () => takeBack(change.change, `${change.author}: ${change.reason}.`) }, "Undo")
      : element("span", { class: "muted" }, change.undone ? `undone by #${change.undone}` : ""));
}
