// <mp-map>: areas of a GeoJSON as SVG, coloured by a number; focusable, with arrows from area to area.
//
// `.load(geojson)`, then `.color({steps: Map(area → 0…6), texts: Map(area → text)})`. `.selected`, `.zoom(borough | null)`,
// `.padding` and `.zoomPadding = {top, right, bottom, left}`. Fires "choose" (detail: area) and "choose-borough" (detail: borough's name).

import { geoIdentity, geoPath } from "d3-geo";
import { element } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const MAX_ZOOM = 6;

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Longitude and latitude to a plane (the equator's cylinder, stretched at this latitude); so the winding of rings does not matter. */
function flattened(collection) {
  let [low, high] = [90, -90];
  const rings = (geometry) => (geometry.type === "Polygon" ? geometry.coordinates : geometry.coordinates.flat());
  const drawn = collection.features.filter((feature) => feature.properties.kind !== "land");
  for (const feature of drawn) for (const ring of rings(feature.geometry)) for (const [, y] of ring) [low, high] = [Math.min(low, y), Math.max(high, y)];
  const stretch = Math.cos((((low + high) / 2) * Math.PI) / 180);
  const flat = (value) => (typeof value[0] === "number" ? [value[0] * stretch, value[1]] : value.map(flat));
  return collection.features.map((feature) => {
    const label = feature.properties.label;
    return { ...feature, properties: { ...feature.properties, label: label && [label[0] * stretch, label[1]] }, geometry: { type: feature.geometry.type, coordinates: flat(feature.geometry.coordinates) } };
  });
}

class AreaMap extends HTMLElement {
  #features = [];
  #paths = new Map(); // area → path
  #names = new Map(); // area → {name, borough}
  #centers = new Map(); // area → [x, y] on the page
  #labels = [];
  #layers = null;
  #texts = new Map();
  #selected = null;
  #zoomed = null;
  padding = { top: 16, right: 16, bottom: 16, left: 16 };
  zoomPadding = {}; // what differs when one borough fills the map

  connectedCallback() {
    if (this.#layers) return;
    const hatch = svg("pattern", { id: "no-data", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("rect", { width: 6, height: 6, class: "hatch-ground" }), svg("line", { y2: 6, class: "hatch-line" }));
    this.#layers = { moved: svg("g", { class: "moved" }), land: svg("g"), areas: svg("g", { role: "group", "aria-label": "Areas" }), borders: svg("g"), top: svg("g"), labels: svg("g", { class: "labels" }) };
    const { moved, land, areas, borders, top, labels } = this.#layers;
    moved.append(land, areas, borders, top);
    this.svg = svg("svg", {}, svg("defs", {}, hatch), moved, labels);
    this.tip = element("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.append(this.svg, this.tip);
    new ResizeObserver(() => this.#fit()).observe(this);
    areas.addEventListener("click", (event) => this.#choose(event.target.closest("[data-area]")));
    areas.addEventListener("keydown", (event) => this.#key(event));
    areas.addEventListener("focusin", (event) => this.#roam(event.target.dataset.area));
    areas.addEventListener("focusout", () => this.#point(null));
    areas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && this.#point(event.target.dataset?.area));
    areas.addEventListener("pointerleave", () => this.#point(null));
  }

  /** The areas that have a shape. */
  get areas() {
    return [...this.#paths.keys()];
  }

  get boroughs() {
    return this.#features.filter((feature) => feature.properties.kind === "borough").map((feature) => feature.properties.name);
  }

  about(area) {
    return this.#names.get(area) ?? null;
  }

  load(collection) {
    this.connectedCallback();
    this.#features = flattened(collection);
    const { land, areas, borders, labels } = this.#layers;
    for (const feature of this.#features) {
      const { kind, area, name, borough } = feature.properties;
      const path = svg("path");
      feature.path = path;
      if (kind === "land") {
        path.setAttribute("class", "land");
        land.append(path);
      } else if (kind === "borough") {
        path.setAttribute("class", "border");
        borders.append(path);
        const label = svg("text", { class: "borough", tabindex: -1 });
        label.textContent = name;
        label.addEventListener("click", () => this.dispatchEvent(new CustomEvent("choose-borough", { detail: name, bubbles: true })));
        labels.append(label);
        this.#labels.push({ feature, label });
      } else {
        for (const [attribute, value] of Object.entries({ class: "area", "data-area": area, "data-step": "none", fill: "url(#no-data)", role: "button", tabindex: -1, "aria-label": area })) path.setAttribute(attribute, value);
        areas.append(path);
        this.#paths.set(area, path);
        this.#names.set(area, { name: name ?? area, borough });
      }
    }
    this.#fit();
    this.#roam(this.#selected ?? this.areas[0], false);
  }

  color({ steps, texts }) {
    this.#texts = texts;
    for (const [area, path] of this.#paths) {
      const step = String(steps.get(area) ?? "none");
      if (path.dataset.step !== step) path.dataset.step = step;
      path.setAttribute("aria-label", texts.get(area) ?? `${area}: no data`);
    }
    if (this.pointed) this.#point(this.pointed);
  }

  set selected(area) {
    this.#selected = area;
    const { top } = this.#layers;
    top.replaceChildren();
    for (const [one, path] of this.#paths) path.setAttribute("aria-pressed", String(one === area));
    const chosen = this.#paths.get(area) ?? this.#features.find((feature) => feature.properties.kind === "borough" && feature.properties.name === area)?.path;
    if (chosen) top.append(svg("path", { class: "chosen", d: chosen.getAttribute("d") ?? "" }));
    if (this.#paths.has(area)) this.#roam(area, false);
  }

  zoom(borough) {
    this.#zoomed = borough;
    this.#move();
  }

  focusArea(area) {
    this.#paths.get(area)?.focus();
  }

  // --- drawing ------------------------------------------------------------------------------------------------------

  #fit() {
    const [width, height] = [this.clientWidth, this.clientHeight];
    if (!width || !height || !this.#features.length) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const drawn = { type: "FeatureCollection", features: this.#features.filter((feature) => feature.properties.kind !== "land") };
    const { top, right, bottom, left } = this.padding;
    const projection = geoIdentity().reflectY(true).fitExtent([[left, top], [width - right, height - bottom]], drawn);
    const draw = geoPath(projection).digits(1);
    for (const feature of this.#features) feature.path.setAttribute("d", draw(feature) ?? "");
    for (const feature of drawn.features) {
      feature.box = draw.bounds(feature);
      if (feature.properties.area) this.#centers.set(feature.properties.area, draw.centroid(feature));
    }
    for (const { feature } of this.#labels) {
      feature.at = feature.properties.label ? projection(feature.properties.label) : draw.centroid(feature);
    }
    this.selected = this.#selected;
    this.#move();
  }

  #move() {
    const { clientWidth: width, clientHeight: height } = this;
    const members = this.#features.filter((feature) => this.#zoomed && feature.box && (feature.properties.borough ?? feature.properties.name) === this.#zoomed);
    let [k, x, y] = [1, 0, 0];
    if (members.length) {
      const left = Math.min(...members.map((m) => m.box[0][0]));
      const top = Math.min(...members.map((m) => m.box[0][1]));
      const right = Math.max(...members.map((m) => m.box[1][0]));
      const bottom = Math.max(...members.map((m) => m.box[1][1]));
      const pad = { ...this.padding, ...this.zoomPadding };
      const room = { width: width - pad.left - pad.right, height: height - pad.top - pad.bottom };
      k = Math.min(MAX_ZOOM, room.width / (right - left), room.height / (bottom - top));
      x = pad.left + room.width / 2 - (k * (left + right)) / 2;
      y = pad.top + room.height / 2 - (k * (top + bottom)) / 2;
    }
    this.#layers.moved.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px) scale(${k.toFixed(4)})`;
    this.#moved = { k, x, y };
    this.classList.toggle("zoomed", members.length > 0);
    for (const [area, path] of this.#paths) path.classList.toggle("aside", members.length > 0 && this.#names.get(area).borough !== this.#zoomed);
    for (const { feature, label } of this.#labels) {
      if (!feature.at) continue;
      const half = label.textContent.length * 4.2 + 4;
      const labelX = Math.max(half, Math.min(width - half, feature.at[0] * k + x));
      label.style.transform = `translate(${labelX.toFixed(1)}px, ${(feature.at[1] * k + y).toFixed(1)}px)`;
    }
  }
  #moved = { k: 1, x: 0, y: 0 };

  // --- pointing -----------------------------------------------------------------------------------------------------

  #choose(path) {
    if (path) this.dispatchEvent(new CustomEvent("choose", { detail: path.dataset.area, bubbles: true }));
  }

  #roam(area, point = true) {
    if (!this.#paths.has(area)) return;
    for (const path of this.#layers.areas.querySelectorAll('[tabindex="0"]')) path.setAttribute("tabindex", "-1");
    this.#paths.get(area).setAttribute("tabindex", "0");
    if (point) this.#point(area);
  }

  #point(area) {
    this.pointed = area ?? null;
    this.tip.hidden = !area || !this.#centers.has(area);
    if (this.tip.hidden) return;
    const [head, ...rest] = (this.#texts.get(area) ?? `${area}: no data`).split(": ");
    this.tip.replaceChildren(element("b", {}, head), element("span", {}, rest.join(": ")));
    const { k, x, y } = this.#moved;
    const [cx, cy] = this.#centers.get(area);
    const left = Math.max(4, Math.min(this.clientWidth - this.tip.offsetWidth - 4, cx * k + x - this.tip.offsetWidth / 2));
    const above = cy * k + y - this.tip.offsetHeight - 16;
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(above < 4 ? cy * k + y + 18 : above)}px)`;
  }

  #key(event) {
    const from = event.target.dataset.area;
    if (!from) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#choose(event.target);
      return;
    }
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!direction) return;
    event.preventDefault();
    event.stopPropagation();
    const [x, y] = this.#centers.get(from);
    let [best, nearest] = [null, Infinity];
    for (const [area, [ax, ay]] of this.#centers) {
      const along = (ax - x) * direction[0] + (ay - y) * direction[1];
      const aside = Math.abs((ax - x) * direction[1]) + Math.abs((ay - y) * direction[0]);
      const distance = along + 2 * aside;
      if (area !== from && along > 0.5 && aside < along * 2.5 && distance < nearest) [best, nearest] = [area, distance];
    }
    if (best) this.focusArea(best);
  }
}
customElements.define("mp-map", AreaMap);
