"use strict";
(() => {
  const data = JSON.parse(document.getElementById("probe-data").textContent);
  const ALL = -1; // all layers; all runs
  const $ = (id) => document.getElementById(id);

  // -- numbers -------------------------------------------------------------------------------------------------------
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  const decoded = new Map();
  const numbers = (text, Kind) => {
    if (!decoded.has(text)) decoded.set(text, new Kind(bytes(text)));
    return decoded.get(text);
  };
  const stepsOf = (curve) => numbers(data.xs[curve.x], Float64Array);
  const valuesOf = (text) => numbers(text, Float32Array);
  const drawn = (steps) => (data.log ? Array.from(steps, (step) => (step === 0 ? 0.5 : step)) : Array.from(steps));
  const nearest = (steps, step) => { // position of the nearest step, by bisection
    let low = 0, high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] <= step) low = middle; else high = middle;
    }
    return Math.abs(steps[high] - step) < Math.abs(steps[low] - step) ? high : low;
  };
  const format = (value) => {
    if (value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6)) {
      return value.toLocaleString("en", { maximumSignificantDigits: 5 });
    }
    return value.toExponential(3);
  };
  const format_step = (step) => step.toLocaleString("en", { maximumFractionDigits: 3 });

  // -- state: kept in the address, so that a reload keeps it ----------------------------------------------------------
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
  const dash_of = (curve, all_layers) => (all_layers && curve.l !== null && curve.s && curve.s !== "train" ? [6, 3] : []);

  // -- drawing -------------------------------------------------------------------------------------------------------
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let doc = null;
  const model = (name) => doc.get_model_by_name(name);
  const fill = (name, columns) => { model(name).data = columns; };
  const ink = (colour) => { // lighter on a dark page
    if (!dark.matches) return colour;
    const parts = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    const share = Math.max(...parts) < 80 ? 0.85 : 0.3;
    return `#${parts.map((part) => Math.round(part + share * (255 - part)).toString(16).padStart(2, "0")).join("")}`;
  };
  const tint = (colour) => (dark.matches ? `${colour}30` : colour);
  const columns_of = (names, rows) => Object.fromEntries(names.map((name, i) => [name, rows.map((row) => row[i])]));

  const limits = (panel, curves) => {
    let low = Infinity, high = -Infinity;
    for (const curve of curves) {
      for (const text of [curve.y, ...(curve.b ?? [])]) {
        for (const value of valuesOf(text)) {
          if (panel.log && value <= 0) continue;
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
    }
    if (low > high) return [panel.log ? 0.1 : 0, 1];
    if (panel.log) {
      low = Math.max(low, panel.least ?? 0);
      const pad = Math.pow(high / low || 10, 0.06) * 1.02;
      return [low / pad, high * pad];
    }
    const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    return [low - pad, high + pad];
  };

  const set_range = (range, low, high) => range.setv({ start: low, end: high, reset_start: low, reset_end: high });

  const draw_panel = (panel, i) => {
    const name = `p${i}`, figure = model(name), several = variables_of(panel).length > 1, all = state.layer === ALL;
    const curves = variables_of(panel).flatMap((variable) => chosen(variable));
    const thick = (curve) => curve.r === state.run || curve.r === null;
    fill(`${name}-lines`, columns_of(["xs", "ys", "colour", "width", "alpha", "dash"], curves.map((curve) => [
      drawn(stepsOf(curve)), Array.from(valuesOf(curve.y)), colour_of(curve, all), thick(curve) ? 2 : 0.8,
      thick(curve) ? 1 : 0.5, dash_of(curve, all),
    ])));
    fill(`${name}-bands`, columns_of(["xs", "ys", "colour"], curves.filter((curve) => curve.b && thick(curve)).map((curve) => {
      const x = drawn(stepsOf(curve)), [low, high] = curve.b.map((text) => Array.from(valuesOf(text)));
      const floor = (value) => (panel.log && value <= 0 ? panel.least ?? 1e-12 : value);
      return [[...x, ...x.slice().reverse()], [...low, ...high.reverse()].map(floor), colour_of(curve, all)];
    })));
    const [low, high] = limits(panel, curves);
    set_range(figure.y_range, low, high);
    panel.shown = curves.filter(thick);
    draw_markers(name, panel, low, high);
    write_legend(`legend-${name}`, panel.shown.map((curve) => [name_of(curve, several), colour_of(curve, all), dash_of(curve, all)]));
    if (panel.measure) $(`title-${name}`).textContent = title_of(state.measure);
  };
  const title_of = (variable) => {
    const { title, unit } = data.variables[variable];
    return unit === "1" ? title : `${title} (${unit})`;
  };

  const draw_markers = (name, panel, low, high) => {
    const markers = data.markers[state.run] ?? [];
    const at = (step) => (data.log && step === 0 ? 0.5 : step);
    const place = (share) => (panel.log ? low * Math.pow(high / low, share) : low + share * (high - low));
    fill(`${name}-phases`, columns_of(["x0", "x1", "colour"], (data.phases[state.run] ?? []).map(([x0, x1, colour]) => [at(x0), at(x1), tint(colour)])));
    fill(`${name}-intervals`, columns_of(["x0", "x1", "colour"], markers.filter((one) => one.lower !== null).map((one) => [at(one.lower), at(one.upper), ink(one.colour)])));
    fill(`${name}-markers`, columns_of(["x", "colour"], markers.map((one) => [at(one.step), ink(one.colour)])));
    fill(`${name}-labels`, columns_of(["x", "y", "text", "colour"], markers.map((one) => [at(one.step), place(0.985 - 0.33 * one.row), one.label, ink(one.colour)])));
  };

  const plane_curves = () => {
    if (!data.plane) return [];
    const split = state.split || data.plane.split;
    const of = (variable) => chosen(variable, { layers: true, thin: false }).filter((curve) => !data.splits.includes(curve.s) || curve.s === split);
    const ys = new Map(of(data.plane.y).map((curve) => [`${curve.l} ${curve.r}`, curve]));
    return of(data.plane.x).map((curve) => {
      const other = ys.get(`${curve.l} ${curve.r}`);
      if (!other) return null;
      const [steps, x, y] = [stepsOf(curve), valuesOf(curve.y), valuesOf(other.y)];
      const theirs = new Map(Array.from(stepsOf(other), (step, i) => [step, y[i]]));
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

  const write_legend = (id, entries) => {
    const list = $(id), seen = new Set();
    list.replaceChildren();
    for (const [text, colour, dash] of entries) {
      if (seen.has(text) || seen.size > 23) continue;
      seen.add(text);
      const item = document.createElement("li");
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("width", 22); svg.setAttribute("height", 8); svg.setAttribute("aria-hidden", "true");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [key, value] of Object.entries({ x1: 0, x2: 22, y1: 4, y2: 4, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash.join(" ") })) line.setAttribute(key, value);
      svg.append(line);
      item.append(svg, document.createTextNode(text));
      list.append(item);
    }
    if (!seen.size) {
      const item = document.createElement("li");
      item.textContent = "nothing on this page for this choice";
      list.append(item);
    }
  };

  // -- the step under the pointer -------------------------------------------------------------------------------------
  const mark = () => {
    const step = state.step, rows = [];
    data.panels.forEach((panel, i) => {
      const cursor = model(`p${i}-cursor`);
      cursor.setv({ location: data.log && step === 0 ? 0.5 : step ?? 0, visible: step !== null });
      const several = variables_of(panel).length > 1, points = [];
      if (step !== null) {
        for (const curve of panel.shown ?? []) {
          const steps = stepsOf(curve), at = nearest(steps, step), value = valuesOf(curve.y)[at];
          points.push([data.log && steps[at] === 0 ? 0.5 : steps[at], value, colour_of(curve, state.layer === ALL)]);
          rows.push([`${several || panel.measure ? "" : `${panel.title}, `}${name_of(curve, several || panel.measure)}`, format_step(steps[at]), format(value)]);
        }
      }
      fill(`p${i}-marked`, columns_of(["x", "y", "colour"], points));
    });
    if (data.plane) {
      fill("plane-marked", columns_of(["x", "y", "colour"], step === null ? [] : plane.map((curve) => {
        const at = nearest(curve.steps, step);
        return [curve.x[at], curve.y[at], layer_colour(curve)];
      })));
    }
    write_values(step, rows);
  };
  const write_values = (step, rows) => {
    $("at").textContent = step === null ? "none" : format_step(step);
    const body = $("values").tBodies[0];
    body.replaceChildren(...rows.slice(0, 60).map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((text, i) => {
        const cell = document.createElement(i ? "td" : "th");
        if (i) cell.className = "n"; else cell.scope = "row";
        cell.textContent = text;
        row.append(cell);
      });
      return row;
    }));
  };
  let waiting = false;
  const mark_soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  };
  const timeline = numbers(data.xs[data.timeline] ?? "", Float64Array);
  const set_step = (step) => {
    state.step = step;
    if (step !== null && timeline.length) $("step").value = nearest(timeline, step);
    mark_soon();
  };
  const moved = (name, x, y) => {
    if (name !== "plane") return set_step(timeline.length ? timeline[nearest(timeline, x)] : null);
    const figure = model("plane"), { x_range, y_range } = figure;
    let best = Infinity, step = null;
    for (const curve of plane) {
      curve.x.forEach((value, i) => {
        const distance = ((value - x) / (x_range.end - x_range.start)) ** 2 + ((curve.y[i] - y) / (y_range.end - y_range.start)) ** 2;
        if (distance < best) [best, step] = [distance, curve.steps[i]];
      });
    }
    set_step(step);
  };

  // -- start ---------------------------------------------------------------------------------------------------------
  const theme = () => {
    const style = getComputedStyle(document.body);
    const [text, line] = [style.getPropertyValue("--soft").trim(), style.getPropertyValue("--line").trim()];
    for (const name of [...data.panels.map((_, i) => `p${i}`), ...(data.plane ? ["plane"] : [])]) {
      const figure = model(name);
      for (const axis of [...figure.below, ...figure.left]) {
        axis.setv({ major_label_text_color: text, axis_label_text_color: text, axis_line_color: text, major_tick_line_color: text, minor_tick_line_color: text });
      }
      for (const grid of figure.center) if (grid.type === "Grid") grid.grid_line_color = line;
    }
  };
  const draw = () => {
    data.panels.forEach(draw_panel);
    draw_plane();
    mark();
    keep();
  };
  const fill_select = (id, entries, value) => {
    const select = $(id);
    select.replaceChildren(...entries.map(([key, text]) => {
      const option = document.createElement("option");
      option.value = key; option.textContent = text;
      return option;
    }));
    select.value = value;
    if (select.selectedIndex < 0) select.selectedIndex = 0;
    select.parentElement.hidden = entries.length < 2;
    return select.value;
  };
  const start = () => {
    doc = Bokeh.documents[0];
    const several = data.runs.length > 1;
    state.run = Number(fill_select("run", [...(several ? [[ALL, `all ${data.n_runs} runs: medians`]] : []), ...data.chosen.map((run) => [run, data.runs[run]])], state.run));
    state.layer = Number(fill_select("layer", [...data.layers.map((layer, i) => [i, layer]), [ALL, "all layers"]], state.layer));
    state.split = fill_select("split", [["", "all"], ...data.splits.map((split) => [split, split])], state.split);
    state.measure = Number(fill_select("measure", data.variables.map((one, i) => [i, one.title]).filter(([i]) => by_variable.has(i)), state.measure));
    if (!data.panels.some((panel) => panel.measure)) $("measure").parentElement.hidden = true;
    if (!data.layers.length) $("layer").parentElement.hidden = true;
    for (const name of ["run", "layer", "measure"]) $(name).addEventListener("change", (event) => { state[name] = Number(event.target.value); draw(); });
    $("split").addEventListener("change", (event) => { state.split = event.target.value; draw(); });
    if (timeline.length) {
      $("step").max = timeline.length - 1;
      $("step").addEventListener("input", (event) => { set_step(timeline[event.target.value]); keep(); });
      const first = drawn(timeline)[0], last = drawn(timeline).at(-1);
      set_range(model("steps"), first === last ? first - 0.5 : first, first === last ? last + 0.5 : last);
    }
    dark.addEventListener("change", () => { theme(); draw(); });
    theme();
    draw();
    if (state.step !== null) set_step(state.step);
    document.documentElement.dataset.ready = "yes";
  };
  const wait = () => (window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle ? start() : setTimeout(wait, 20));
  window.probeReport = { moved, state, data, draw, model };
  if ($("reload")) {
    $("reload").checked = !kept.has("still");
    $("reload").addEventListener("change", keep);
    setInterval(() => { if ($("reload").checked) { keep(); location.reload(); } }, 1000 * data.reload);
  }
  if (data.panels.length) wait(); else document.documentElement.dataset.ready = "yes";
})();
