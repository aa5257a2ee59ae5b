// The charts: which curves they show, and what Bokeh draws.
// -- which curves --------------------------------------------------------------------------------------------------
const by_variable = new Map();
for (const curve of data.curves) {
  if (!by_variable.has(curve.v)) by_variable.set(curve.v, []);
  by_variable.get(curve.v).push(curve);
}
const of_run = (curve) => curve.r === null || (state.run === ALL ? true : curve.r === state.run);
const of_split = (curve) => !state.split || !data.splits.includes(curve.s) || curve.s === state.split;
const chosen = (variable, { layers = false, thin = true } = {}) => {
  let found = (by_variable.get(variable) ?? []).filter((curve) => of_run(curve) && of_split(curve));
  if (state.run === ALL && !(thin && data.thin)) found = found.filter((curve) => curve.r === null || curve.r === ALL);
  if (state.layer === ALL || layers) return found;
  if (found.some((curve) => curve.l === state.layer)) return found.filter((curve) => curve.l === state.layer || curve.l === null);
  const last = Math.max(...found.map((curve) => curve.l ?? ALL)); // this measure has other layers
  return found.filter((curve) => (curve.l ?? ALL) === last);
};
const variables_of = (panel) => (panel.measure ? [state.measure] : panel.vars);
const name_of = (curve, several) => [
  several ? data.variables[curve.v].title : "", curve.s, curve.l === null ? "" : data.layers[curve.l],
].filter(Boolean).join(", ") || data.variables[curve.v].title;
const colour_of = (curve, all_layers) => {
  if (all_layers && curve.l !== null) return ink(data.layer_colours[curve.l]);
  return ink(data.variables[curve.v].colours[curve.s] ?? "#777777");
};
const dash_of = (curve) => data.dashes[curve.s] ?? data.variables[curve.v].dash; // for prints without colour

// -- drawing -------------------------------------------------------------------------------------------------------
const dark = matchMedia("(prefers-color-scheme: dark)");
let doc = null;
const model = (name) => doc.get_model_by_name(name);
const fill = (name, columns) => { model(name).data = columns; };
let is_printed = false; // on white paper
const is_dark = () => dark.matches && !is_printed;
const parts_of = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
const mixed = (colour, other, share) => { // share: of the other colour
  const [a, b] = [parts_of(colour), parts_of(other)];
  return `#${a.map((part, i) => Math.round(part + share * (b[i] - part)).toString(16).padStart(2, "0")).join("")}`;
};
const luminance = (colour) => parts_of(colour).map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
const contrast = (a, b) => (Math.max(luminance(a), luminance(b)) + 0.05) / (Math.min(luminance(a), luminance(b)) + 0.05);
const ground = () => (is_dark() ? "#17181a" : "#ffffff"); // --ground of page.css
const tint = (colour) => (is_dark() ? mixed(colour, ground(), 0.72) : colour); // of a phase
const inks = new Map();
const ink = (colour) => { // a contrast of 3 to the ground and to the shades of phases
  const key = `${colour} ${is_dark()}`;
  if (!inks.has(key)) {
    const behind = [ground(), ...Object.values(data.phase_names).map(([, shade]) => tint(shade))];
    let found = colour;
    for (let share = 0; share < 1 && Math.min(...behind.map((one) => contrast(found, one))) < 3; share += 0.025) {
      found = mixed(colour, is_dark() ? "#ffffff" : "#000000", share);
    }
    inks.set(key, found);
  }
  return inks.get(key);
};
const columns_of = (names, rows) => Object.fromEntries(names.map((name, i) => [name, rows.map((row) => row[i])]));

const limits = (panel, curves) => {
  let low = Infinity, high = -Infinity;
  for (const curve of curves) {
    for (const text of [curve.y, ...(curve.b ?? [])]) {
      for (const value of values_of(text)) {
        if (panel.log && value <= 0) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
  }
  if (low > high) return [panel.log ? 0.1 : 0, 1];
  if (panel.log) {
    low = Math.max(low, panel.least ?? 0);
    const pad = (high / low || 10) ** 0.06 * 1.02;
    return [low / pad, high * pad];
  }
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - pad, high + pad];
};

const set_range = (range, low, high) => range.setv({ start: low, end: high, reset_start: low, reset_end: high });

// The part of a curve between two steps: all of it if it is short, else the least and the largest value in each column.
const part_of = (curve, low, high) => {
  const steps = steps_of(curve), [from, to] = [nearest(steps, low) - 1, nearest(steps, high) + 2];
  const all = range_of(Math.max(0, from), Math.min(steps.length, to));
  const places = all.length <= 2 * data.columns ? all : columns(steps, values_of(curve.y), all);
  return { places, is_reduced: places.length < all.length };
};
const range_of = (from, to) => Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
const columns = (steps, values, places) => {
  const x0 = position(steps[places[0]]), x1 = position(steps[places.at(-1)]);
  const least = new Map(), largest = new Map();
  for (const i of places) {
    const column = Math.floor((position(steps[i]) - x0) / (x1 - x0) * data.columns);
    if (!(values[i] >= values[least.get(column)])) least.set(column, i);
    if (!(values[i] <= values[largest.get(column)])) largest.set(column, i);
  }
  return [...new Set([places[0], ...least.values(), ...largest.values(), places.at(-1)])].sort((a, b) => a - b);
};
const visible = () => { const { start, end } = model("steps"); return [step_at(start), step_at(end)]; };

const draw_panel = (panel, i) => {
  const name = `p${i}`, figure = model(name), several = variables_of(panel).length > 1, all = state.layer === ALL;
  panel.curves = variables_of(panel).flatMap((variable) => chosen(variable));
  panel.shown = panel.curves.filter(is_thick);
  const [low, high] = limits(panel, panel.curves);
  set_range(figure.y_range, low, high);
  draw_curves(panel, i);
  draw_markers(name, panel, low, high);
  write_legend(`legend-${name}`, panel.shown.map((curve) => [name_of(curve, several), colour_of(curve, all), dash_of(curve)]));
  if (panel.measure) $(`title-${name}`).textContent = title_of(state.measure);
};
const is_thick = (curve) => curve.r === state.run || curve.r === null;
const draw_curves = (panel, i) => { // the visible part
  const name = `p${i}`, all = state.layer === ALL, [from, to] = visible();
  const parts = panel.curves.map((curve) => {
    const steps = steps_of(curve), { places, is_reduced } = part_of(curve, from, to);
    const of = (text) => { const values = values_of(text); return places.map((at) => values[at]); };
    return { curve, of, is_reduced, x: places.map((at) => position(steps[at])) };
  });
  fill(`${name}-lines`, columns_of(["xs", "ys", "colour", "width", "alpha", "dash"], parts.map(({ curve, of, x }) => [
    x, of(curve.y), colour_of(curve, all), is_thick(curve) ? 2 : 0.8, is_thick(curve) ? 1 : 0.5, dash_of(curve),
  ])));
  const floor = (value) => (panel.log && value <= 0 ? panel.least ?? 1e-12 : value);
  fill(`${name}-bands`, columns_of(["xs", "ys", "colour"], parts.filter(({ curve }) => curve.b && is_thick(curve)).map(({ curve, of, x }) => {
    const [low, high] = curve.b.map(of);
    return [[...x, ...x.slice().reverse()], [...low, ...high.reverse()].map(floor), colour_of(curve, all)];
  })));
  $(`note-${name}`).textContent = note_of(parts);
};
const note_of = (parts) => { // whether the chart shows all observations
  const incomplete = parts.find(({ curve }) => curve.n)?.curve.n; // the page does not hold all of this curve
  if (!incomplete && !parts.some(({ is_reduced }) => is_reduced)) return "";
  const count = (number) => number.toLocaleString("en");
  const reduced = `reduced: least and largest value per pixel column`;
  if (!incomplete) return `${reduced}; zoom in to see all observations`;
  const where = is_zoomed() ? " of the whole record; this page does not hold the observations between them" : "";
  return `${reduced} (${count(data.columns)} columns for ${count(incomplete)} observations)${where}`;
};
const is_zoomed = () => { const { start, end, reset_start, reset_end } = model("steps"); return start > reset_start || end < reset_end; };
const title_of = (variable) => {
  const { title, unit } = data.variables[variable];
  return unit === "1" ? title : `${title} (${unit})`;
};

const draw_markers = (name, panel, low, high) => {
  const markers = data.markers[state.run] ?? [];
  const place = (share) => (panel.log ? low * (high / low) ** share : low + share * (high - low));
  fill(`${name}-phases`, columns_of(["x0", "x1", "colour"], (data.phases[state.run] ?? []).map(([x0, x1, phase]) => [position(x0), position(x1), tint(data.phase_names[phase][1])])));
  fill(`${name}-intervals`, columns_of(["x0", "x1", "colour"], markers.filter((one) => one.lower !== null).map((one) => [position(one.lower), position(one.upper), ink(one.colour)])));
  fill(`${name}-markers`, columns_of(["x", "colour"], markers.map((one) => [position(one.step), ink(one.colour)])));
  fill(`${name}-labels`, columns_of(["x", "y", "text"], markers.map((one) => [position(one.step), place(0.985 - 0.33 * one.row), one.label])));
};

const plane_curves = () => {
  if (!data.plane) return [];
  const split = state.split || data.plane.split;
  const of = (variable) => chosen(variable, { layers: true, thin: false }).filter((curve) => !data.splits.includes(curve.s) || curve.s === split);
  const ys = new Map(of(data.plane.y).map((curve) => [`${curve.l} ${curve.r}`, curve]));
  return of(data.plane.x).map((curve) => {
    const other = ys.get(`${curve.l} ${curve.r}`);
    if (!other) return null;
    const [steps, x, y] = [steps_of(curve), values_of(curve.y), values_of(other.y)];
    const theirs = new Map(Array.from(steps_of(other), (step, i) => [step, y[i]]));
    const points = Array.from(steps, (step, i) => [step, x[i], theirs.get(step)]).filter((point) => point[2] !== undefined);
    return { l: curve.l, s: curve.s, steps: points.map((p) => p[0]), x: points.map((p) => p[1]), y: points.map((p) => p[2]) };
  }).filter((curve) => curve && curve.steps.length);
};
const layer_colour = (curve) => ink(curve.l === null ? "#777777" : data.layer_colours[curve.l]);
let plane = [];
const draw_plane = () => {
  if (!data.plane) return;
  plane = plane_curves();
  const colour = layer_colour;
  const alpha = (curve) => (state.layer === ALL || curve.l === null || curve.l === state.layer ? 1 : 0.3);
  fill("plane-lines", columns_of(["xs", "ys", "colour", "width", "alpha", "dash"], plane.map((curve) => [curve.x, curve.y, colour(curve), 1.5, alpha(curve), []])));
  const dots = plane.flatMap((curve) => curve.x.map((x, i) => [x, curve.y[i], colour(curve)]));
  fill("plane-dots", columns_of(["x", "y", "colour"], dots.length > 4000 ? [] : dots));
  fill("plane-rings", columns_of(["x", "y", "colour"], (data.markers[state.run] ?? []).flatMap((one) => plane.filter((curve) => alpha(curve) === 1).map((curve) => {
    const i = nearest(curve.steps, one.step);
    return [curve.x[i], curve.y[i], ink(one.colour)];
  }))));
  const figure = model("plane"), range = (values) => {
    const low = Math.min(...values), high = Math.max(...values), pad = (high - low) * 0.06 || 0.1;
    return [low - pad, high + pad];
  };
  if (dots.length) {
    set_range(figure.x_range, ...range(dots.map((dot) => dot[0])));
    set_range(figure.y_range, ...range(dots.map((dot) => dot[1])));
  }
  model("plane-ceiling").location = data.plane.ceiling;
  write_legend("legend-plane", plane.map((curve) => [curve.l === null ? "all" : data.layers[curve.l], colour(curve), []]));
};

const write_legend = (id, entries) => { // entries: [text, colour, dash], or without a dash for an area
  const list = $(id), seen = new Set(), items = [];
  for (const [text, colour, dash] of entries) {
    if (seen.has(text) || seen.size > 23) continue;
    seen.add(text);
    items.push([swatch(colour, dash), text]);
  }
  if (!items.length) items.push(["", "nothing on this page for this choice"]);
  list.replaceChildren(...items.map((parts) => {
    const item = document.createElement("li");
    item.append(...parts);
    return item;
  }));
};
const swatch = (colour, dash) => {
  const svg = document.createElementNS(SVG, "svg"), line = document.createElementNS(SVG, "line");
  const set = (element, values) => { for (const [key, value] of Object.entries(values)) element.setAttribute(key, value); };
  set(svg, { width: 22, height: dash ? 8 : 12, "aria-hidden": "true" });
  set(line, { x1: 0, x2: 22, y1: dash ? 4 : 6, y2: dash ? 4 : 6, stroke: colour, "stroke-width": dash ? 3 : 12, "stroke-dasharray": (dash ?? []).join(" ") });
  svg.append(line);
  return svg;
};
const write_phases = () => {
  const found = [...new Set((data.phases[state.run] ?? []).map(([, , phase]) => phase))];
  $("phases").hidden = !found.length;
  write_legend("phases", found.map((phase) => [data.phase_names[phase][0], tint(data.phase_names[phase][1])]));
};
