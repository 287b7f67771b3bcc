// What all pages share: stamps that age, the banner, keys, the table switch, search.

import { ago } from "./time.js";
import { address, connection, get, now } from "./api.js";
import { all, element, one, typing, write } from "./dom.js";
import { state } from "./state.js";

// --- freshness stamps -----------------------------------------------------------------------------------------------

const stamps = new Map();

/** Show beside a number how old it is; `at` null shows nothing. Older than `staleAfter` ms is marked. */
export function stamp(node, at, { before = "", staleAfter = 90_000 } = {}) {
  if (!node) return;
  stamps.set(node, { at, before, staleAfter });
  age(node);
}

function age(node) {
  const { at, before, staleAfter } = stamps.get(node);
  const old = at === null ? null : now() - at;
  write(node, old === null ? "" : `${before}${ago(old)}`);
  node.classList.toggle("stale", old !== null && old > staleAfter);
  if (at !== null) node.title = new Date(at).toISOString();
}

setInterval(() => stamps.forEach((_, node) => age(node)), 1000);

// --- is the server there --------------------------------------------------------------------------------------------

/** Banner and live word follow the connection; `retry` is called by the banner's button. */
export function watchConnection(retry) {
  const banner = one("[data-banner]");
  const show = () => {
    document.documentElement.dataset.connection = connection.state;
    const lost = connection.state === "lost";
    const seconds = connection.retryAt ? Math.max(0, Math.ceil((connection.retryAt - Date.now()) / 1000)) : null;
    // a restart of the server is over before anybody can read a banner
    banner.hidden = !lost || (lostSince !== null && Date.now() - lostSince < 1500);
    if (lost) {
      write(one("[data-banner-text]"), `The server can't be reached. The numbers below are from before. Trying again${seconds ? ` in ${seconds} s` : ""}…`);
    }
    for (const word of all("[data-live-word]")) write(word, { live: "live", connecting: "connecting", lost: "not connected" }[connection.state]);
  };
  let lostSince = null;
  connection.addEventListener("change", () => {
    lostSince = connection.state === "lost" ? Date.now() : null;
    show();
  });
  setInterval(() => connection.state === "lost" && show(), 500);
  one("[data-banner-retry]").addEventListener("click", retry);
  show();
}

one("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" }); // on a phone the pages scroll sideways

// --- keys -----------------------------------------------------------------------------------------------------------

const keys = new Map();

/** A key for the whole page. */
export const onKey = (key, act) => keys.set(key, act);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.key === "Escape" && one("[data-help]").open) return;
  if (typing(event) && event.key !== "Escape") return;
  const act = keys.get(event.key);
  if (!act) return;
  if (act(event) !== false) event.preventDefault();
});

onKey("?", () => one("[data-help]").showModal());
onKey("/", () => one("#search").focus());
onKey("t", () => state.set({ view: state.get("view") === "table" ? null : "table" }));
one("[data-help-button]").addEventListener("click", () => one("[data-help]").showModal());
one("[data-help]").addEventListener("click", (event) => event.target === event.currentTarget && event.currentTarget.close());

// --- charts as tables -----------------------------------------------------------------------------------------------

function showTables() {
  const asTable = state.get("view") === "table";
  for (const chart of all("mp-chart")) chart.toggleAttribute("table", asTable);
  for (const button of all("[data-table-button]")) {
    button.setAttribute("aria-pressed", asTable);
    write(button, asTable ? "Chart" : "Table");
    button.title = `${asTable ? "Chart" : "Table"} (t)`;
  }
}
for (const button of all("[data-table-button]")) {
  button.addEventListener("click", () => state.set({ view: state.get("view") === "table" ? null : "table" }));
}
state.onChange(showTables);
showTables();

/** Fill the CSV · JSON · Parquet · API links of a panel. */
export function fillLinks(name, parameters, path = "/v1/usage") {
  for (const link of all(`[data-links="${name}"] a`)) {
    const extension = { csv: ".csv", json: ".json", parquet: ".parquet", api: "" }[link.dataset.as];
    link.href = address(`${path}${extension}`, parameters);
    if (link.dataset.as === "csv" || link.dataset.as === "parquet") link.download = `${parameters.channel ?? `${parameters.area}-${parameters.utility}`}${extension}`;
  }
}

// --- search ---------------------------------------------------------------------------------------------------------

/** The channels of the home that a customer, channel, meter or usage point id belongs to; [] where there is none. */
export async function homeOf(text) {
  const ask = async (parameters) => {
    const answer = await get(address("/v1/channels", parameters));
    return Array.isArray(answer) ? answer : (answer.channels ?? []);
  };
  const guesses = [...new Set([text, text.toUpperCase()])];
  for (const guess of guesses) {
    const found = await ask({ customer: guess, limit: 50 });
    if (found.length) return found;
  }
  for (const guess of guesses) {
    try {
      const channel = await get(`/v1/channels/${encodeURIComponent(guess)}`);
      if (channel.customer) return await ask({ customer: channel.customer, limit: 50 });
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }
  return [];
}

/** Search in the header: `suggest(text)` gives [{label, note, go}]; the last resort is a home of that id. */
export function search(suggest = () => []) {
  const form = one("[data-search]");
  const input = one("#search");
  const list = one("#found");
  let shown = [];
  let at = -1;

  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const mark = (index) => {
    at = index;
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", i === at));
    if (at >= 0) input.setAttribute("aria-activedescendant", `found-${at}`);
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };
  const go = (item) => {
    close();
    input.value = "";
    input.blur();
    item.go();
  };
  const update = () => {
    const text = input.value.trim();
    shown = text ? suggest(text).slice(0, 8) : [];
    if (text && /\d/.test(text) && !/^\d{5}$/.test(text)) {
      shown.push({ label: `Home ${text.toUpperCase()}`, note: "open", go: () => openHome(text) });
    }
    list.replaceChildren(...shown.map((item, i) => {
      const row = element("li", { role: "option", id: `found-${i}`, "aria-selected": "false" }, element("span", {}, item.label), element("small", {}, item.note ?? ""));
      row.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        go(item);
      });
      return row;
    }));
    list.hidden = !shown.length;
    input.setAttribute("aria-expanded", String(shown.length > 0));
    mark(shown.length ? 0 : -1);
  };
  const openHome = async (text) => {
    const found = await homeOf(text).catch(() => []);
    location.href = `/home/${encodeURIComponent(found[0]?.customer ?? text)}`;
  };

  input.addEventListener("input", update);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!shown.length) return;
      event.preventDefault();
      mark((at + (event.key === "ArrowDown" ? 1 : -1) + shown.length) % shown.length);
    } else if (event.key === "Escape") {
      input.value = "";
      close();
      input.blur();
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (shown[at]) go(shown[at]);
    else if (text) openHome(text);
  });
}
