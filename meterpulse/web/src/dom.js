// Small helpers for elements.

export const one = (selector, root = document) => root.querySelector(selector);
export const all = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with attributes, properties starting with "." and children (text or nodes). */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith(".")) made[name.slice(1)] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function write(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

/** Text inputs keep their keys. */
export const typing = (event) => event.target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]") !== null;

/** Buttons with role=radio: one tab stop, arrows choose. `choose(value)` on a change; returns mark(value). */
export function segmented(root, choose) {
  const buttons = () => all("[role=radio]", root).filter((button) => !button.disabled && !button.closest("[hidden]"));
  root.addEventListener("click", (event) => {
    const button = event.target.closest("[role=radio]");
    if (button && !button.disabled && root.contains(button)) choose(button.dataset.value);
  });
  root.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const row = buttons();
    const at = row.indexOf(event.target.closest("[role=radio]"));
    if (!step || at < 0) return;
    event.preventDefault();
    event.stopPropagation();
    const next = row[(at + step + row.length) % row.length];
    next.focus();
    choose(next.dataset.value);
  });
  return (value) => {
    for (const button of all("[role=radio]", root)) {
      const chosen = button.dataset.value === value;
      button.setAttribute("aria-checked", chosen);
      button.tabIndex = chosen ? 0 : -1;
    }
  };
}

/** A table for people and screen readers: columns [{title, number?}], rows [[text | node]]. */
export function table(caption, columns, rows) {
  return element(
    "table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...columns.map((column) => element("th", { scope: "col", class: column.number && "n" }, column.title)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell, i) =>
      i === 0 ? element("th", { scope: "row" }, cell) : element("td", { class: columns[i].number && "n" }, cell))))),
  );
}
