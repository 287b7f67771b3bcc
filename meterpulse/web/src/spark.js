// <mp-spark>: a small line without axes. `.values = [number | null, …]`; gaps stay gaps. `.span = [first, after]` before the
// values shades what they are about.

const WIDTH = 100;
const HEIGHT = 32;
const SVG = "http://www.w3.org/2000/svg";

class Spark extends HTMLElement {
  #line = null;
  #area = null;
  #dot = null;
  #band = null;
  #span = null;

  connectedCallback() {
    if (this.#line) return;
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    [this.#band, this.#area, this.#line, this.#dot] = ["spark-band", "spark-area", "spark-line", "spark-dot"].map((name) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      svg.append(path);
      return path;
    });
    this.append(svg);
  }

  set span(span) {
    this.#span = span;
  }

  set values(values) {
    this.connectedCallback();
    const known = values.filter((value) => value !== null);
    const top = Math.max(...known, 0) * 1.08 || 1;
    const x = (i) => (values.length > 1 ? (i / (values.length - 1)) * (WIDTH - 3) + 1 : WIDTH / 2);
    const y = (value) => HEIGHT - 2 - (value / top) * (HEIGHT - 5);
    let line = "";
    let area = "";
    let from = null;
    values.forEach((value, i) => {
      if (value !== null) {
        line += `${from === null ? "M" : "L"}${x(i).toFixed(2)} ${y(value).toFixed(2)}`;
        area += from === null ? `M${x(i).toFixed(2)} ${HEIGHT}L${x(i).toFixed(2)} ${y(value).toFixed(2)}` : `L${x(i).toFixed(2)} ${y(value).toFixed(2)}`;
        from ??= i;
      }
      if (from !== null && (value === null || i === values.length - 1)) {
        area += `V${HEIGHT}Z`;
        from = null;
      }
    });
    const [first, after] = this.#span ?? [0, 0];
    this.#band.setAttribute("d", this.#span ? `M${(x(first) - 1).toFixed(2)} 0H${Math.max(x(first) + 2, x(after - 1) + 1).toFixed(2)}V${HEIGHT}H${(x(first) - 1).toFixed(2)}Z` : "");
    const last = this.#span ? -1 : values.findLastIndex((value) => value !== null);
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", area);
    this.#dot.setAttribute("d", last < 0 ? "" : `M${x(last).toFixed(2)} ${y(values[last]).toFixed(2)}h0.01`);
  }
}
customElements.define("mp-spark", Spark);
