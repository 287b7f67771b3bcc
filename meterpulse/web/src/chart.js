// <mp-chart>: one day (or any span) of lines or bars over uPlot, with a sentence, a legend that switches, keys and touch,
// and the same numbers as a table. uPlot is known to this file only.
//
// `.show({span, ticks, x, series, format, unit, clock, sentence, columns, rows, missing, marks, now, empty})`
//   span     seconds from the left to the right edge        ticks   [{at, label}]
//   x        seconds of the middle of each interval          now     seconds, or null
//   series   [{key, name, values, style: area | straight | bars | dashed | dotted}] in kWh or m³ per hour already scaled; null = unknown
//   missing  [[from, to]] seconds without readings, drawn as hatching, never as zero
//   band     [from, to] seconds that are meant, shaded
//   marks    [{from, to, mark}] spans of a quality other than actual
//   clock    (index) → "14:05 – 14:10"                       format  (value) → "1.2 kW"

import uPlot from "uplot";
import { element, table, write } from "./dom.js";

const STYLES = {
  area: { width: 2, paths: uPlot.paths.spline() },
  straight: { width: 2, paths: uPlot.paths.linear() },
  bars: { width: 0, paths: uPlot.paths.bars({ size: [0.78, 40], radius: 0.18 }) },
  dashed: { width: 1.5, dash: [6, 4], paths: uPlot.paths.spline() },
  dotted: { width: 1.5, dash: [1.5, 4], cap: "round", paths: uPlot.paths.spline() },
};
const FALLBACK_HEIGHT = 220;

class Chart extends HTMLElement {
  static observedAttributes = ["table"];
  #plot = null;
  #data = null;
  #hidden = new Set();
  #index = null;
  #shape = "";

  connectedCallback() {
    if (this.#parts) return;
    const label = this.getAttribute("label");
    this.#parts = {
      sentence: element("p", { class: "sentence" }),
      legend: element("div", { class: "chart-legend", role: "group", "aria-label": "Lines" }),
      plot: element("div", { class: "plot", tabindex: "0", role: "group", "aria-roledescription": "chart", "aria-label": label }),
      tip: element("div", { class: "tip", hidden: true, "aria-hidden": "true" }),
      said: element("p", { class: "sr", "aria-live": "polite" }),
      table: element("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": `${label}, as a table`, hidden: true }),
      empty: element("p", { class: "chart-empty", hidden: true }),
    };
    const { sentence, legend, plot, tip, said, table: box, empty } = this.#parts;
    plot.append(tip);
    this.append(sentence, legend, empty, plot, box, said);
    plot.addEventListener("keydown", (event) => this.#key(event));
    plot.addEventListener("blur", () => this.#leave());
    legend.addEventListener("click", (event) => this.#switch(event.target.closest("button")));
    new ResizeObserver(() => this.#resize()).observe(plot);
    document.addEventListener("themechange", () => this.#rebuild());
    this.#layout();
  }
  #parts = null;

  attributeChangedCallback() {
    this.#layout();
  }

  show(data) {
    this.connectedCallback();
    this.#data = data;
    write(this.#parts.sentence, data.sentence ?? "");
    this.#drawLegend();
    this.#layout();
    const shape = JSON.stringify([data.span, data.ticks, data.unit, data.series.map((series) => [series.key, series.style])]);
    if (!this.#plot || shape !== this.#shape) {
      this.#shape = shape;
      this.#rebuild();
    } else {
      this.#plot.setData(this.#columns());
    }
    if (this.#asTable) this.#drawTable();
  }

  get #asTable() {
    return this.hasAttribute("table");
  }

  #layout() {
    if (!this.#parts) return;
    const empty = this.#data?.empty ?? null;
    this.#parts.empty.hidden = !empty;
    write(this.#parts.empty, empty ?? "");
    this.#parts.plot.hidden = this.#asTable || Boolean(empty);
    this.#parts.legend.hidden = this.#asTable || Boolean(empty);
    this.#parts.table.hidden = !this.#asTable || Boolean(empty);
    if (this.#asTable && this.#data) this.#drawTable();
    else this.#resize();
  }

  // --- drawing ------------------------------------------------------------------------------------------------------

  #columns() {
    return [this.#data.x, ...this.#data.series.map((series) => series.values)];
  }

  #color(name) {
    return getComputedStyle(this).getPropertyValue(name).trim();
  }

  #rebuild() {
    this.#plot?.destroy();
    this.#plot = null;
    const { plot } = this.#parts ?? {};
    if (!this.#data || !plot || !plot.clientWidth) return;
    const ink = this.#color("--muted");
    const grid = this.#color("--grid");
    const font = `11px ${getComputedStyle(this).fontFamily}`;
    const colors = { area: this.#color("--accent-line"), straight: this.#color("--accent-line"), bars: this.#color("--accent-bar"), dashed: this.#color("--compare-1"), dotted: this.#color("--compare-2") };
    const accent = this.#color("--accent-line");
    this.#plot = new uPlot({
      width: plot.clientWidth,
      height: plot.clientHeight || FALLBACK_HEIGHT,
      padding: [10, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7, width: 2 } },
      scales: {
        x: { time: false, range: () => [0, this.#data.span] },
        y: { range: (_, low, high) => [Math.min(0, (low ?? 0) * 1.08), Math.max((high ?? 0) * 1.1, 1e-9)] },
      },
      axes: [
        {
          stroke: ink, font, grid: { show: false }, ticks: { stroke: grid, size: 5, width: 1 }, gap: 4, size: 28,
          splits: () => this.#ticks().map((tick) => tick.at),
          values: () => this.#ticks().map((tick) => tick.label),
        },
        {
          stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { show: false }, gap: 6, size: (_, values) => 14 + 6.2 * Math.max(2, ...(values ?? []).map((v) => v.length)),
          space: 42, values: (_, splits) => splits.map((value) => (value === 0 ? "0" : +value.toPrecision(6)).toString()),
        },
      ],
      series: [
        {},
        ...this.#data.series.map((series) => ({
          show: !this.#hidden.has(series.key),
          stroke: colors[series.style],
          fill: series.style === "area" || series.style === "straight" ? (u) => fade(u, accent) : series.style === "bars" ? colors.bars : undefined,
          points: { show: false, size: 4, filter: (u, i) => (series.style === "bars" ? null : alone(u.data[i])) },
          spanGaps: false,
          ...STYLES[series.style],
        })),
      ],
      hooks: { drawClear: [(u) => this.#drawBehind(u)], draw: [(u) => this.#drawAbove(u)], setCursor: [(u) => this.#tip(u)] },
    }, this.#columns(), plot);
    plot.prepend(plot.lastElementChild); // the tip stays above
  }

  #ticks() {
    const room = Math.max(2, Math.floor((this.#parts.plot.clientWidth - 50) / 52));
    const every = Math.ceil(this.#data.ticks.length / room);
    return this.#data.ticks.filter((_, i) => i % (every === 3 ? 4 : every) === 0);
  }

  #resize() {
    const { plot } = this.#parts ?? {};
    if (!plot || plot.hidden || !this.#data || !plot.clientWidth) return;
    if (!this.#plot) this.#rebuild();
    else if (this.#plot.width !== plot.clientWidth || (plot.clientHeight && this.#plot.height !== plot.clientHeight)) {
      this.#plot.setSize({ width: plot.clientWidth, height: plot.clientHeight || FALLBACK_HEIGHT });
    }
  }

  #drawBehind(u) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.setLineDash([]);
    if (this.#data.band) {
      const [left, right] = this.#data.band.map((at) => u.valToPos(at, "x", true));
      ctx.fillStyle = this.#color("--band");
      ctx.fillRect(left, bbox.top, Math.max(2 * ratio, right - left), bbox.height);
    }
    for (const [from, to] of this.#data.missing ?? []) {
      const left = u.valToPos(from, "x", true);
      const width = Math.max(ratio, u.valToPos(to, "x", true) - left);
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, bbox.top, width, bbox.height);
      ctx.clip();
      ctx.strokeStyle = this.#color("--hatch");
      ctx.lineWidth = ratio;
      ctx.beginPath();
      for (let x = left - bbox.height - ((left - bbox.height) % (7 * ratio)); x < left + width; x += 7 * ratio) {
        ctx.moveTo(x, bbox.top + bbox.height);
        ctx.lineTo(x + bbox.height, bbox.top);
      }
      ctx.stroke();
      ctx.restore();
      if (width > 58 * ratio) {
        ctx.fillStyle = this.#color("--muted");
        ctx.font = `${11 * ratio}px ${getComputedStyle(this).fontFamily}`;
        ctx.textAlign = "center";
        ctx.textBaseline = "middle";
        const middle = bbox.top + bbox.height / 2;
        const words = ctx.measureText("no data").width;
        ctx.save();
        ctx.fillStyle = this.#color("--surface");
        ctx.fillRect(left + width / 2 - words / 2 - 5 * ratio, middle - 9 * ratio, words + 10 * ratio, 18 * ratio);
        ctx.restore();
        ctx.fillText("no data", left + width / 2, middle);
      }
    }
    if (this.#data.now !== null && this.#data.now !== undefined && this.#data.now <= this.#data.span) {
      const x = Math.round(u.valToPos(this.#data.now, "x", true)) + 0.5;
      ctx.strokeStyle = this.#color("--now-line");
      ctx.lineWidth = ratio;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  #drawAbove(u) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = this.#color("--ink");
    ctx.fillStyle = this.#color("--surface");
    ctx.lineWidth = 1.5 * ratio;
    ctx.setLineDash([]);
    const y = bbox.top + 6 * ratio;
    for (const { from, to, mark } of this.#data.marks ?? []) {
      const [left, right] = [u.valToPos(from, "x", true), u.valToPos(to, "x", true)];
      if (right - left > 12 * ratio) {
        ctx.beginPath();
        ctx.moveTo(left, y);
        ctx.lineTo(right, y);
        ctx.stroke();
      }
      drawMark(ctx, mark, (left + right) / 2, y, 4 * ratio);
    }
    const now = this.#data.point;
    if (now && now.value !== null) {
      const x = u.valToPos(now.at, "x", true);
      const height = u.valToPos(now.value, "y", true);
      ctx.fillStyle = this.#color("--accent-line");
      ctx.strokeStyle = this.#color("--surface");
      ctx.lineWidth = 2 * ratio;
      ctx.beginPath();
      ctx.arc(x, height, 4.5 * ratio, 0, 7);
      ctx.fill();
      ctx.stroke();
    }
    ctx.restore();
  }

  // --- legend, table ------------------------------------------------------------------------------------------------

  #drawLegend() {
    const { legend } = this.#parts;
    const wanted = this.#data.series.map((series) => series.key + series.name).join();
    if (legend.dataset.of === wanted) return;
    legend.dataset.of = wanted;
    legend.replaceChildren(...this.#data.series.map((series) =>
      element("button", { type: "button", "aria-pressed": String(!this.#hidden.has(series.key)), "data-key": series.key, title: "Show or hide" },
        element("span", { class: `sample ${series.style}`, "aria-hidden": "true" }), series.name)),
    element("span", { class: "chart-unit" }, this.#data.unit));
  }

  #switch(button) {
    if (!button) return;
    const key = button.dataset.key;
    if (!this.#hidden.delete(key)) this.#hidden.add(key);
    button.setAttribute("aria-pressed", String(!this.#hidden.has(key)));
    const at = this.#data.series.findIndex((series) => series.key === key);
    this.#plot?.setSeries(at + 1, { show: !this.#hidden.has(key) });
  }

  #drawTable() {
    const { table: box } = this.#parts;
    const top = box.scrollTop;
    box.replaceChildren(table(this.getAttribute("label"), this.#data.columns ?? [], this.#data.rows ?? []));
    box.scrollTop = top;
  }

  // --- pointing -----------------------------------------------------------------------------------------------------

  #key(event) {
    const last = this.#data ? this.#data.x.length - 1 : -1;
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -12, PageDown: 12 }[event.key];
    if (last < 0 || !this.#plot) return;
    if (event.key === "Escape") return this.#leave();
    if (event.key === "Home") this.#index = 0;
    else if (event.key === "End") this.#index = last;
    else if (step) this.#index = Math.max(0, Math.min(last, (this.#index ?? this.#newest() - step) + step));
    else return;
    event.preventDefault();
    event.stopPropagation();
    const left = this.#plot.valToPos(this.#data.x[this.#index], "x");
    this.#plot.setCursor({ left, top: 10 });
    write(this.#parts.said, `${this.#data.clock(this.#index)}: ${this.#values(this.#index).map(([name, value]) => `${name} ${value}`).join(", ")}`);
  }

  #newest() {
    const at = this.#data.series[0].values.findLastIndex((value) => value !== null);
    return at < 0 ? this.#data.x.length - 1 : at;
  }

  #leave() {
    this.#index = null;
    this.#plot?.setCursor({ left: -10, top: -10 });
  }

  #values(index) {
    return this.#data.series.filter((series, i) => !this.#hidden.has(series.key) && (i === 0 || series.values.some((value) => value !== null))).map((series) => {
      const value = series.values[index];
      return [series.name, value === null || value === undefined ? (this.#ahead(index, series) ? "—" : "no data") : this.#data.format(value), series.style];
    });
  }

  #ahead(index, series) {
    return series === this.#data.series[0] && this.#data.now !== null && this.#data.now !== undefined && this.#data.x[index] > this.#data.now;
  }

  #tip(u) {
    const { tip } = this.#parts;
    const { idx, left } = u.cursor;
    tip.hidden = idx === null || idx === undefined || left < 0;
    if (tip.hidden) return;
    tip.replaceChildren(
      element("b", {}, this.#data.clock(idx)),
      ...this.#values(idx).map(([name, value, style]) => element("span", {}, element("i", { class: `sample ${style}` }), element("span", {}, name), element("em", {}, value))),
      ...(this.#data.tipNote?.(idx) ? [element("small", {}, this.#data.tipNote(idx))] : []),
    );
    const x = u.over.offsetLeft + u.valToPos(this.#data.x[idx], "x");
    const flip = x > this.clientWidth / 2;
    tip.style.transform = `translate(${Math.round(flip ? x - tip.offsetWidth - 14 : x + 14)}px, 8px)`;
  }
}
customElements.define("mp-chart", Chart);

/** Indices that have no neighbour to draw a line to. */
function alone(values) {
  const known = (at) => values[at] !== null && values[at] !== undefined;
  const found = values.map((_, i) => i).filter((i) => known(i) && !known(i - 1) && !known(i + 1));
  return found.length ? found : null;
}

function fade(u, color) {
  const { top, height } = u.bbox;
  if (!Number.isFinite(top) || !height) return "transparent";
  const gradient = u.ctx.createLinearGradient(0, top, 0, top + height);
  gradient.addColorStop(0, withAlpha(color, 0.3));
  gradient.addColorStop(1, withAlpha(color, 0.02));
  return gradient;
}

function withAlpha(color, alpha) {
  return color.startsWith("oklch(") ? `${color.slice(0, -1)} / ${alpha})` : color;
}

function drawMark(ctx, mark, x, y, size) {
  ctx.beginPath();
  if (mark === "E") { // diamond
    ctx.moveTo(x, y - size);
    ctx.lineTo(x + size, y);
    ctx.lineTo(x, y + size);
    ctx.lineTo(x - size, y);
    ctx.closePath();
  } else if (mark === "S") {
    ctx.rect(x - size * 0.85, y - size * 0.85, size * 1.7, size * 1.7);
  } else if (mark === "L") { // triangle
    ctx.moveTo(x, y - size);
    ctx.lineTo(x + size, y + size * 0.8);
    ctx.lineTo(x - size, y + size * 0.8);
    ctx.closePath();
  } else { // questionable: a cross
    ctx.moveTo(x - size, y - size);
    ctx.lineTo(x + size, y + size);
    ctx.moveTo(x + size, y - size);
    ctx.lineTo(x - size, y + size);
  }
  ctx.fill();
  ctx.stroke();
}

