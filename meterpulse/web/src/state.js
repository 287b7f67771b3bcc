// What a page shows lives in its address, so that it can be linked, reloaded and gone back to.

const listeners = new Set();

export const state = {
  get(name, otherwise = null) {
    return new URLSearchParams(location.search).get(name) ?? otherwise;
  },
  /** Set parameters (null takes one out); `step` makes it a step that "back" undoes. */
  set(changes, { step = false } = {}) {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") query.delete(name);
      else query.set(name, value);
    }
    const text = query.toString();
    const target = location.pathname + (text ? `?${text}` : "");
    if (target === location.pathname + location.search) return;
    history[step ? "pushState" : "replaceState"](null, "", target);
    this.tell();
  },
  onChange(listener) {
    listeners.add(listener);
  },
  tell() {
    for (const listener of listeners) listener();
  },
};

addEventListener("popstate", () => state.tell());
