// The HTTP API as the pages see it: JSON, the server's clock, one live stream per tab, and whether the server is there.

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let skew = 0; // server minus browser, ms; only where they differ by more than the header can tell

export const now = () => Date.now() + skew;

function learnClock(response, sent) {
  const date = Date.parse(response.headers.get("date") ?? "");
  if (!Number.isFinite(date)) return;
  const difference = date + 500 - (sent + Date.now()) / 2;
  skew = Math.abs(difference) > 1500 ? difference : 0;
}

/** The JSON of an address; throws ApiError with the problem's own words, status 0 where the server is unreachable. */
export const get = (address, signal) => ask(address, { headers: { accept: "application/json" }, signal });

/** Send JSON and get JSON; throws ApiError as get does. */
export const post = (address, body) =>
  ask(address, { method: "POST", headers: { accept: "application/json", "content-type": "application/json" }, body: JSON.stringify(body) });

async function ask(address, options) {
  const sent = Date.now();
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    connection.lost();
    throw new ApiError(0, "the server cannot be reached");
  }
  learnClock(response, sent);
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new ApiError(response.status, problem.detail || problem.title || `the server answered ${response.status}`);
  }
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the answer broke off"); // the connection ended inside the body
  }
}

export function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null || value === undefined || value === "") continue;
    for (const one of Array.isArray(value) ? value : [value]) query.append(name, one);
  }
  return `${path}?${query}`;
}

/** live | connecting | lost; fires "change". */
class Connection extends EventTarget {
  state = "connecting";
  retryAt = null;
  set(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
  lost() {
    this.set("lost");
  }
}
export const connection = new Connection();

const PATIENCE_MS = [500, 1000, 2000, 4000, 8000, 15_000];
const SILENCE_MS = 12_000; // the status comes every second
const HIDDEN_MS = 60_000;

/**
 * The tab's one stream. `handlers` are {event: (data) => …}; `onOpen(again)` runs after each (re)connection, again being
 * true for all but the first, so that a page fetches what it missed. `close()` ends it; `open(parameters)` changes it.
 */
export class Live {
  #source = null;
  #parameters = null;
  #tries = 0;
  #timer = null;
  #heard = 0;
  #opened = false;
  #hidden = null;

  constructor(handlers, onOpen) {
    this.handlers = handlers;
    this.onOpen = onOpen;
    setInterval(() => this.#watch(), 2000);
    document.addEventListener("visibilitychange", () => this.#visibility());
    addEventListener("pagehide", () => this.#drop());
    addEventListener("pageshow", (event) => event.persisted && this.#connect());
    addEventListener("online", () => this.retry());
  }

  open(parameters) {
    this.#parameters = parameters;
    this.#tries = 0;
    this.#connect();
  }

  /** Try at once. */
  retry() {
    if (connection.state === "live" || !this.#parameters) return;
    this.#tries = 0;
    this.#connect();
  }

  #connect() {
    this.#drop();
    const source = new EventSource(address("/v1/live", this.#parameters));
    this.#source = source;
    this.#heard = Date.now();
    source.addEventListener("open", () => {
      this.#tries = 0;
      this.#heard = Date.now();
      connection.retryAt = null;
      connection.set("live");
      this.onOpen?.(this.#opened);
      this.#opened = true;
    });
    source.addEventListener("error", () => source === this.#source && this.#failed());
    for (const [name, handle] of Object.entries(this.handlers)) {
      source.addEventListener(name, (event) => {
        this.#heard = Date.now();
        handle(JSON.parse(event.data));
      });
    }
  }

  #failed() {
    this.#drop();
    const wait = PATIENCE_MS[Math.min(this.#tries, PATIENCE_MS.length - 1)];
    this.#tries += 1;
    connection.retryAt = Date.now() + wait;
    connection.set("lost");
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  #watch() {
    if (this.#source && Date.now() - this.#heard > SILENCE_MS) this.#failed();
  }

  #visibility() {
    clearTimeout(this.#hidden);
    if (document.hidden) {
      this.#hidden = setTimeout(() => this.#drop(), HIDDEN_MS); // browsers allow six connections per host
    } else if (!this.#source && this.#parameters) {
      this.#connect();
    }
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }
}
