// Choose a home: by what is typed, or from a sample.

import { address, get } from "./api.js";
import { element, one, write } from "./dom.js";
import { UTILITIES } from "./units.js";
import { homeOf, search, watchConnection } from "./frame.js";

const SAMPLE = 24; // homes
const IN_AREA = 400; // channels asked for; a home has several

const answer = one("[data-answer]");
const list = one("[data-samples]");
const open = (customer) => {
  location.href = `/home/${encodeURIComponent(customer)}`;
};

async function ask(parameters) {
  const found = await get(address("/v1/channels", parameters));
  return Array.isArray(found) ? found : (found.channels ?? []);
}

function show(channels, most) {
  const homes = new Map();
  for (const channel of channels) {
    if (!channel.customer) continue;
    if (!homes.has(channel.customer)) homes.set(channel.customer, { ...channel, utilities: new Set() });
    homes.get(channel.customer).utilities.add(channel.utility);
  }
  list.replaceChildren(...[...homes.values()].slice(0, most).map((home) =>
    element("li", {}, element("a", { href: `/home/${encodeURIComponent(home.customer)}` },
      element("b", {}, home.customer),
      element("span", {}, [home.class === "business" ? "Business" : "Household", home.area].filter(Boolean).join(" · ")),
      element("span", { class: "utility-dots" }, ...UTILITIES.filter((name) => home.utilities.has(name)).map((name) => element("i", { "data-utility": name, title: name })))))));
  return homes.size;
}

async function find(text) {
  write(answer, "Looking…");
  try {
    if (/^\S+$/.test(text)) {
      const there = await ask({ area: text, limit: IN_AREA });
      const shown = there.length ? show(there, 48) : 0;
      if (shown) {
        write(one("[data-samples-title]"), `In ${text}`);
        return write(answer, "");
      }
      const home = await homeOf(text);
      if (home.length) return open(home[0].customer ?? text);
    }
    write(answer, `Nothing is called “${text}”. A home looks like H-000001, a business like B-000001, a postcode like 10003.`);
  } catch (error) {
    write(answer, `That did not work: ${error.message}.`);
  }
}

one("[data-picker]").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = one("#pick").value.trim();
  if (text) find(text);
});

watchConnection(() => location.reload());
search();
const asked = new URLSearchParams(location.search).get("q")?.trim();
if (asked) {
  one("#pick").value = asked;
  find(asked);
}
Promise.all(UTILITIES.map((utility) => ask({ utility, limit: 2 * SAMPLE })))
  .then((found) => {
    const channels = found.flat();
    if (asked && list.children.length) return;
    if (!show(channels, SAMPLE)) write(answer, channels.length ? "The channels here belong to no customer; open one by its id." : "No homes yet. Register channels with POST /v1/channels, or start the demo city.");
  })
  .catch((error) => write(answer, `The list can't be read: ${error.message}.`));
