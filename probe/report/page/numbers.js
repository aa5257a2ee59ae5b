// Curves as numbers, positions of steps on the axis, texts of numbers, and what the reader has chosen.
const data = JSON.parse(document.getElementById("probe-data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const ALL = -1; // all layers; all runs
const $ = (id) => document.getElementById(id);

// -- curves ----------------------------------------------------------------------------------------------------------
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const decoded = new Map();
const numbers = (text, Kind) => {
  if (!decoded.has(text)) decoded.set(text, new Kind(bytes(text)));
  return decoded.get(text);
};
const steps_at = (place) => { // base 64, or first step, distance and number
  const found = data.xs[place];
  if (typeof found === "string") return numbers(found, Float64Array);
  if (!decoded.has(found)) decoded.set(found, Float64Array.from({ length: found[2] }, (_, i) => found[0] + i * found[1]));
  return decoded.get(found);
};
const steps_of = (curve) => steps_at(curve.x);
const values_of = (text) => numbers(text, Float32Array);
const nearest = (steps, step) => { // place of the nearest step, by bisection
  let low = 0, high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle; else high = middle;
  }
  return Math.abs(steps[high] - step) < Math.abs(steps[low] - step) ? high : low;
};

// -- the axis of steps, as in probe/plots/steps.py --------------------------------------------------------------------
const { log, first, gap, slit } = data.scale; // slit: ends of the break between step 0 and the rest, or null
const position = (step) => (!log ? step : step < first ? gap * step / first : gap + Math.log10(step / first));
const step_at = (x) => (!log ? x : x < gap ? Math.max(0, first * x / gap) : first * 10 ** (x - gap));

const nice_ticks = (low, high, most) => { // multiples of 1, 2 or 5 times a power of ten
  const rough = (high - low) / most || 1, power = 10 ** Math.floor(Math.log10(rough));
  const size = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.ceil(low / size), count = Math.min(Math.floor(high / size) - first + 1, 2 * most + 2);
  return Array.from({ length: Math.max(0, count) }, (_, i) => (first + i) * size);
};
const ticks_of = (low, high, most) => { // positions of the ticks between two positions
  if (!log) return { ticks: nice_ticks(low, high, most), minor_ticks: [] };
  const from = Math.max(low, gap), decades = high - from, minor_ticks = [];
  let ticks = [];
  if (decades > 0 && decades < 0.7) {
    ticks = nice_ticks(step_at(from), step_at(high), most).map(position);
  } else {
    const every = Math.max(1, Math.ceil(decades / most)), parts = decades < most / 3 ? [1, 2, 5] : [1];
    for (let power = Math.floor(Math.log10(step_at(from))); power <= Math.log10(step_at(high)); power++) {
      for (let digit = 1; digit < 10; digit++) {
        const x = position(digit * 10 ** power);
        if (x < from - 1e-9 || x > high + 1e-9) continue;
        if (parts.includes(digit) && power % every === 0) ticks.push(x); else if (every === 1) minor_ticks.push(x);
      }
    }
  }
  if (slit) ticks = [position(0), (slit[0] + slit[1]) / 2].filter((x) => x >= low - 1e-9 && x <= high).concat(ticks);
  return { ticks, minor_ticks };
};
const tick = (x) => (slit && x > slit[0] && x < slit[1] ? "//" : short_step(step_at(x)));
const short_step = (step) => { // 0, 500, 20k, 1M, as in figures
  const [size, unit] = [[1e15, "e15"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([least]) => Math.abs(step) >= least * (1 - 1e-9)) ?? [1, ""];
  return unit === "e15" ? step.toExponential(2) : `${Number((step / size).toPrecision(10))}${unit}`;
};

// -- texts -----------------------------------------------------------------------------------------------------------
const format = (value) => {
  if (value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6)) {
    return value.toLocaleString("en", { maximumSignificantDigits: 5 });
  }
  return value.toExponential(3);
};
const format_step = (step) => {
  const rounded = Number(step.toPrecision(12)); // without the rounding errors of logarithms
  if (Math.abs(rounded) >= 1e7) return rounded.toExponential().replace("e+", "e");
  return rounded.toLocaleString("en", { maximumFractionDigits: 3 });
};

// -- what the reader has chosen: kept in the address, so that a reload keeps it ----------------------------------------
const kept = new URLSearchParams(location.hash.slice(1));
const state = { ...data.start };
for (const name of ["run", "layer", "measure", "step"]) {
  if (kept.has(name) && Number.isFinite(Number(kept.get(name)))) state[name] = Number(kept.get(name));
}
if (kept.has("split")) state.split = kept.get("split");
const keep = () => {
  const words = new URLSearchParams(Object.entries(state).filter(([, value]) => value !== null));
  if ($("reload") && !$("reload").checked) words.set("still", 1);
  try { history.replaceState(null, "", `#${words}`); } catch { /* a page within another page */ }
};
