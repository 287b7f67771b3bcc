// Builds src/ into static/: hashed files, manifest.json (source → file) and the licence texts of what is inside.

import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { build } from "esbuild";

const OUT = "static";
const hashed = (name, body) => {
  const hash = createHash("sha256").update(body).digest("hex").slice(0, 10);
  const dot = name.lastIndexOf(".");
  return `${name.slice(0, dot)}-${hash}${name.slice(dot)}`;
};

await rm(OUT, { recursive: true, force: true });
await mkdir(OUT, { recursive: true });

const common = { bundle: true, minify: true, target: "es2022", charset: "utf8", legalComments: "none", metafile: true, outdir: OUT };
const modules = await build({
  ...common,
  entryPoints: ["channel", "city", "differences", "home", "homes", "status", "worklist"].map((page) => `src/${page}.js`),
  entryNames: "[name]-[hash]", chunkNames: "shared-[hash]", format: "esm", splitting: true,
});
const rest = await build({ ...common, entryPoints: ["src/theme.js", "src/style.css"], entryNames: "[name]-[hash]", format: "iife" });

const manifest = {};
const inputs = new Set();
for (const { outputs } of [modules.metafile, rest.metafile]) {
  for (const [file, about] of Object.entries(outputs)) {
    if (about.entryPoint) manifest[basename(about.entryPoint)] = basename(file);
    for (const input of Object.keys(about.inputs)) inputs.add(input);
  }
}

const icon = await readFile("src/icon.svg");
manifest["icon.svg"] = hashed("icon.svg", icon);
await writeFile(join(OUT, manifest["icon.svg"]), icon);

const packages = [...new Set([...inputs].map((input) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input)?.[1]).filter(Boolean))].sort();
const licences = [];
for (const name of [...packages, "us-atlas"]) {
  const folder = join("node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  const used = name === "us-atlas" ? " (the outlines in geo/areas.json)" : "";
  licences.push(`${name} ${version}, ${license}${used}\n\n${(await readFile(join(folder, file), "utf8")).trim()}\n`);
}
licences.push(`zipcodes 3.0.0, MIT (the postcodes' points in geo/areas.json)\n\n${(await readFile("geo/zipcodes.LICENSE.txt", "utf8")).trim()}\n`);
await writeFile(join(OUT, "licences.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));
await writeFile(join(OUT, "manifest.json"), `${JSON.stringify(Object.fromEntries(Object.entries(manifest).sort()), null, 2)}\n`);

for (const file of (await readdir(OUT)).sort()) console.log(String((await readFile(join(OUT, file))).length).padStart(8), file);
