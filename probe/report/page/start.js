// Colours of the page for the charts, controls, and the first drawing.
const names_of_figures = () => [...data.panels.map((_, i) => `p${i}`), ...(data.plane ? ["plane"] : [])];
const theme = () => {
  const style = getComputedStyle(document.body);
  const [text, line, ground, label] = ["--soft", "--line", "--ground", "--ink"].map((name) => style.getPropertyValue(name).trim());
  for (const name of names_of_figures()) {
    const figure = model(name);
    for (const axis of [...figure.below, ...figure.left]) {
      axis.setv({ major_label_text_color: text, axis_label_text_color: text, axis_line_color: text, major_tick_line_color: text, minor_tick_line_color: text });
    }
    const labels = figure.renderers.find((one) => one.name === "label");
    if (labels) labels.glyph.text_color = label;
    for (const grid of figure.center) if (grid.type === "Grid") grid.grid_line_color = line;
    if (slit && name !== "plane") model(`${name}-break`).setv({ left: slit[0], right: slit[1], fill_color: ground, visible: true });
  }
};
const draw = () => {
  data.panels.forEach(draw_panel);
  draw_plane();
  write_phases();
  mark();
  keep();
};

const place_ticks = () => {
  const { start, end } = model("steps");
  data.panels.forEach((_, i) => {
    const most = Math.max(2, Math.floor((model(`p${i}`).inner_width || 400) / 62));
    model(`p${i}-ticks`).setv(ticks_of(start, end, most));
  });
};
const zoomed = once_a_frame(() => { // the steps that are shown have changed
  place_ticks();
  data.panels.forEach((panel, i) => { if (panel.curves?.some((curve) => steps_of(curve).length > 2 * data.columns || curve.n)) draw_curves(panel, i); });
  $("whole").hidden = !is_zoomed();
  mark_soon();
});
const resized = once_a_frame(() => { place_ticks(); mark_soon(); });
const show_whole = () => {
  for (const figure of names_of_figures().map(model)) figure.reset.emit();
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
const fill_selects = () => {
  const all = data.runs.length > 1 ? [[ALL, `all ${data.n_runs} runs: medians`]] : [];
  const measures = data.variables.map((one, i) => [i, one.title]).filter(([i]) => by_variable.has(i));
  state.run = Number(fill_select("run", [...all, ...data.chosen.map((run) => [run, data.runs[run]])], state.run));
  state.layer = Number(fill_select("layer", [...data.layers.map((layer, i) => [i, layer]), [ALL, "all layers"]], state.layer));
  state.split = fill_select("split", [["", "every split"], ...data.splits.map((split) => [split, split])], state.split);
  state.measure = Number(fill_select("measure", measures, state.measure));
  if (!data.panels.some((panel) => panel.measure)) $("measure").parentElement.hidden = true;
  if (!data.layers.length) $("layer").parentElement.hidden = true;
  for (const name of ["run", "layer", "measure"]) $(name).addEventListener("change", (event) => { state[name] = Number(event.target.value); draw(); });
  $("split").addEventListener("change", (event) => { state.split = event.target.value; draw(); });
};
const set_slider = () => {
  if (!timeline.length) return;
  $("step").max = timeline.length - 1;
  $("step").addEventListener("input", (event) => { set_step(timeline[event.target.value]); keep(); });
  const [low, high] = [position(timeline[0]), position(timeline.at(-1))];
  set_range(model("steps"), low === high ? low - 0.5 : low, low === high ? high + 0.5 : high);
};
const leave_focus_order = (element) => { // charts are hidden from screen readers, so that the keyboard skips them
  for (const one of element.querySelectorAll("*")) {
    if (one.tabIndex >= 0) one.tabIndex = -1;
    if (one.shadowRoot) leave_focus_order(one.shadowRoot);
  }
};
const print_charts = () => { // pictures in place of the charts, which do not follow the width of the paper
  is_printed = true;
  theme();
  draw();
  for (const name of names_of_figures()) {
    const view = Bokeh.index.get(model(name)), image = new Image();
    view.paint();
    image.src = view.export("png", true).canvas.toDataURL();
    image.className = "printed";
    $(`plot-${name}`).append(image);
  }
  for (const one of document.querySelectorAll("details:not([open])")) { one.open = true; one.dataset.closed = ""; }
};
const end_print = () => {
  is_printed = false;
  document.querySelectorAll("img.printed").forEach((image) => image.remove());
  for (const one of document.querySelectorAll("details[data-closed]")) { one.open = false; delete one.dataset.closed; }
  theme();
  draw();
};
const start = () => {
  doc = Bokeh.documents[0];
  fill_selects();
  set_slider();
  $("whole").addEventListener("click", show_whole);
  $("at-step").addEventListener("toggle", mark_soon);
  addEventListener("beforeprint", print_charts);
  addEventListener("afterprint", end_print);
  dark.addEventListener("change", () => { theme(); draw(); });
  theme();
  place_ticks();
  draw();
  if (state.step !== null) set_step(state.step);
  document.querySelectorAll(".plot").forEach(leave_focus_order);
  document.documentElement.dataset.ready = "yes";
};
const wait = () => (window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle ? start() : setTimeout(wait, 20));
window.probeReport = { moved, position, marked_in_plane, zoomed, resized, tick, state, data, draw, model };
if ($("reload")) {
  $("reload").checked = !kept.has("still");
  $("reload").addEventListener("change", keep);
  setInterval(() => { if ($("reload").checked) { keep(); location.reload(); } }, 1000 * data.reload);
}
if (data.panels.length) wait(); else document.documentElement.dataset.ready = "yes";
