// The step under the pointer. It is drawn above the charts: Bokeh would draw each chart again for each move.
const overlays = new Map();
const overlay = (name) => { // a line and dots above a chart
  if (!overlays.has(name)) {
    const svg = document.createElementNS(SVG, "svg"), line = document.createElementNS(SVG, "line");
    svg.setAttribute("class", "overlay");
    svg.append(line);
    $(`plot-${name}`).append(svg);
    overlays.set(name, { svg, line, dots: [] });
  }
  return overlays.get(name);
};
const draw_overlay = (name, x, points, radius) => { // x: where the line is, or null; points: [x, y, colour]
  const { svg, line, dots } = overlay(name), { left, top, width, height } = Bokeh.index.get(model(name)).frame.bbox;
  const { x_range, y_range } = model(name), log_y = data.panels[Number(name.slice(1))]?.log;
  const share = (value, { start, end }, scale = (one) => one) => (scale(value) - scale(start)) / (scale(end) - scale(start));
  const across = (value) => left + share(value, x_range) * width;
  const down = (value) => top + (1 - share(value, y_range, log_y ? Math.log : undefined)) * height;
  const inside = (one) => one[0] >= left - 1 && one[0] <= left + width + 1 && one[1] >= top - 1 && one[1] <= top + height + 1;
  const at = x === null ? -1 : across(x);
  line.style.display = at < left - 1 || at > left + width + 1 ? "none" : "";
  line.setAttribute("transform", `translate(${at} 0)`);
  line.setAttribute("y1", top);
  line.setAttribute("y2", top + height);
  const shown = points.map(([px, py, colour]) => [across(px), down(py), colour]).filter(inside);
  while (dots.length < shown.length) dots.push(svg.appendChild(document.createElementNS(SVG, "circle")));
  dots.forEach((dot, i) => {
    dot.style.display = i < shown.length ? "" : "none";
    if (i >= shown.length) return;
    const [cx, cy, fill] = shown[i];
    for (const [key, value] of Object.entries({ cx, cy, fill, r: radius })) dot.setAttribute(key, value);
  });
};

const marked_of = (panel) => (state.step === null ? [] : (panel.shown ?? []).map((curve) => {
  const steps = steps_of(curve), at = nearest(steps, state.step);
  return { curve, step: steps[at], value: values_of(curve.y)[at] };
}));
const marked_in_plane = () => (state.step === null ? [] : plane.map((curve) => {
  const at = nearest(curve.steps, state.step);
  return [curve.x[at], curve.y[at], layer_colour(curve)];
}));
const mark = () => {
  const { step } = state, all = state.layer === ALL;
  data.panels.forEach((panel, i) => {
    panel.marked = marked_of(panel);
    const points = panel.marked.map((one) => [position(one.step), one.value, colour_of(one.curve, all)]);
    draw_overlay(`p${i}`, step === null ? null : position(step), points, 4);
  });
  if (data.plane) draw_overlay("plane", null, marked_in_plane(), 5.5);
  $("at").textContent = step === null ? "none" : format_step(step);
  $("step").setAttribute("aria-valuetext", $("at").textContent);
  if ($("at-step").open) write_values();
  announce_soon();
};
const rows_of = () => data.panels.flatMap((panel) => {
  const several = variables_of(panel).length > 1 || panel.measure;
  return (panel.marked ?? []).map(({ curve, step, value }) => [
    `${several ? "" : `${panel.title}, `}${name_of(curve, several)}`, format_step(step), format(value),
  ]);
});
const write_values = () => {
  $("values").tBodies[0].replaceChildren(...rows_of().slice(0, 60).map((cells) => {
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
let silence = 0;
const announce_soon = () => { // for screen readers, once the step rests
  clearTimeout(silence);
  if (state.step === null) return;
  silence = setTimeout(() => {
    const values = rows_of().slice(0, 4).map(([name, , value]) => `${name} ${value}`);
    $("status").textContent = [`${data.axis} ${format_step(state.step)}`, ...values].join("; ");
  }, 600);
};

const once_a_frame = (work) => {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; if (doc) work(); }); // not before the start
  };
};
const mark_soon = once_a_frame(mark);
const timeline = data.xs.map((_, place) => steps_at(place)).reduce((a, b) => (b.length > a.length ? b : a), new Float64Array());
const set_step = (step) => {
  state.step = step;
  if (step !== null && timeline.length) $("step").value = nearest(timeline, step);
  mark_soon();
};
const moved = (name, x, y) => {
  if (name !== "plane") return set_step(timeline.length ? timeline[nearest(timeline, step_at(x))] : null);
  const { x_range, y_range } = model("plane");
  let best = Infinity, step = null;
  for (const curve of plane) {
    curve.x.forEach((value, i) => {
      const distance = ((value - x) / (x_range.end - x_range.start)) ** 2 + ((curve.y[i] - y) / (y_range.end - y_range.start)) ** 2;
      if (distance < best) [best, step] = [distance, curve.steps[i]];
    });
  }
  set_step(step);
};
