// Seven colours for a set of numbers: breaks at quantiles, rounded to what a legend can say.

const CLASSES = 7;

function rounded(value) {
  if (value <= 0) return 0;
  const unit = 10 ** (Math.floor(Math.log10(value)) - 1);
  return Number((Math.round(value / unit) * unit).toPrecision(3));
}

/**
 * {breaks, classes, step(value), fits(values)} for numbers as they are shown; `step` and `fits` take them before
 * `factor` is applied. Classes are the colours 0…6 in use, each below its break.
 */
export function ramp(values, factor) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  const breaks = sorted.length ? [...new Set(Array.from({ length: CLASSES - 1 }, (_, i) => rounded(at((i + 1) / CLASSES))))].filter((value) => value > sorted[0]) : [];
  const last = breaks.length;
  const colour = (i) => (last === 0 ? 3 : Math.round((i * (CLASSES - 1)) / last));
  const step = (value) => {
    const i = breaks.findIndex((edge) => value * factor < edge);
    return colour(i < 0 ? last : i);
  };
  const outside = (list) => list.filter((value) => sorted.length && (value * factor > at(1) * 1.6 || value * factor < at(0) * 0.5)).length;
  return {
    breaks,
    classes: sorted.length ? Array.from({ length: last + 1 }, (_, i) => colour(i)) : [],
    step,
    fits: (list) => Boolean(sorted.length) && list.length <= sorted.length * 1.2 && outside(list) <= list.length * 0.1,
  };
}
