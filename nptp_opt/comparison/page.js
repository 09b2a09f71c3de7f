"use strict";
const D = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#0a7ea4",
  "#57606a", "#d4572a", "#3b6e22"];
const NS = "http://www.w3.org/2000/svg";
const byId = id => document.getElementById(id);
const F = Object.fromEntries(D.fields.map((name, i) => [name, i]));
const get = (run, name) => run[F[name]];

function make(parent, tag, text, attrs) {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  for (const [k, v] of Object.entries(attrs || {})) node.setAttribute(k, v);
  if (parent) parent.append(node);
  return node;
}
function draw(parent, tag, attrs, text) {
  const node = document.createElementNS(NS, tag);
  for (const [k, v] of Object.entries(attrs)) node.setAttribute(k, v);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}
function show(v) {
  if (v === null || v === undefined) return "–";
  if (typeof v !== "number") return String(v);
  return String(Number.isInteger(v) ? v : Number(v.toPrecision(5)));
}
function tables(parent, rows) {
  const blocks = new Map();
  rows.forEach(r => {
    const keys = Object.keys(r).join();
    blocks.set(keys, [...blocks.get(keys) || [], r]);
  });
  blocks.forEach(block => table(parent, block));
}
function table(parent, rows) {
  const keys = Object.keys(rows[0]);
  const t = make(make(parent, "div", null, { class: "scroll" }), "table");
  const head = make(make(t, "thead"), "tr");
  keys.forEach(k => make(head, "th", k));
  const body = make(t, "tbody");
  rows.forEach(r => { const tr = make(body, "tr"); keys.forEach(k => make(tr, "td", show(r[k]))); });
}
function scale(lo, hi, a, b, log) {
  const f = log ? Math.log10 : x => x;
  const span = f(hi) - f(lo) || 1;
  return x => a + (b - a) * (f(x) - f(lo)) / span;
}
function ticks(lo, hi, log) {
  if (!log || hi / lo < 3) return [0, 1, 2, 3, 4].map(k => lo + (hi - lo) * k / 4);
  const found = [];
  for (let e = Math.floor(Math.log10(lo)); e <= Math.ceil(Math.log10(hi)); e++)
    for (const m of hi / lo > 1000 ? [1] : [1, 2, 5])
      if (m * 10 ** e >= lo * 0.999 && m * 10 ** e <= hi * 1.001) found.push(m * 10 ** e);
  return found.length > 1 ? found : [lo, hi];
}
function frame(parent, title, x, y) {
  make(parent, "h3", title);
  const w = Math.max(280, parent.clientWidth || 440), h = 260, svg = draw(parent, "svg",
    { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": title });
  const X = scale(x.lo, x.hi, 48, w - 12, x.log), Y = scale(y.lo, y.hi, h - 38, 10, y.log);
  for (const t of ticks(x.lo, x.hi, x.log)) {
    draw(svg, "line", { x1: X(t), x2: X(t), y1: 10, y2: h - 38, stroke: "#eaeef2" });
    draw(svg, "text", { x: X(t), y: h - 24, "text-anchor": "middle" }, show(+t.toPrecision(3)));
  }
  for (const t of ticks(y.lo, y.hi, y.log)) {
    draw(svg, "line", { x1: 48, x2: w - 12, y1: Y(t), y2: Y(t), stroke: "#eaeef2" });
    draw(svg, "text", { x: 44, y: Y(t) + 4, "text-anchor": "end" }, show(+t.toPrecision(3)));
  }
  draw(svg, "text", { x: w / 2, y: h - 6, "text-anchor": "middle" }, x.label);
  return { svg, X, Y, w, h };
}
function lines(parent, title, curves, x, y) {
  const all = Object.values(curves).flat();
  const hi = x.hi || Math.max(1.01, ...all.map(p => p[0]));
  const lo = x.lo || Math.min(...all.map(p => p[0]));
  const f = frame(parent, title, { ...x, lo, hi: Math.max(hi, lo * 1.1) }, y);
  const legend = make(parent, "div", null, { class: "legend" });
  Object.entries(curves).forEach(([name, points], k) => {
    const colour = COLOURS[k % COLOURS.length], dash = k >= COLOURS.length ? "5 3" : "none";
    let d = "", last = null;
    for (const [px, py] of [...points, [hi, points.length ? points[points.length - 1][1] : 0]]) {
      const sx = f.X(Math.min(px, hi)).toFixed(1), sy = f.Y(py).toFixed(1);
      d += last === null ? `M${sx} ${sy}` : `H${sx}V${sy}`;
      last = py;
    }
    draw(f.svg, "path", { d, fill: "none", stroke: colour, "stroke-width": 1.8,
      "stroke-dasharray": dash });
    const item = make(legend, "span");
    make(item, "i", null, { style: `background:${colour}` });
    item.append(name);
  });
}
function bars(parent, title, entries, most) {
  const known = entries.filter(e => e[1] !== null && e[1] !== undefined);
  if (!known.length) return;
  const top = most || Math.max(...known.map(e => e[1])) || 1, row = 20;
  const w = Math.max(280, parent.clientWidth || 440), name = Math.min(150, w * 0.42);
  make(parent, "h3", title);
  const svg = draw(parent, "svg", { viewBox: `0 0 ${w} ${known.length * row + 4}`, role: "img",
    "aria-label": title });
  known.forEach(([label, value], k) => {
    const y = k * row, long = (w - name - 62) * value / top;
    const short = label.length > name / 6 ? label.slice(0, name / 6 - 1) + "…" : label;
    const text = draw(svg, "text", { x: name - 6, y: y + 14, "text-anchor": "end" }, short);
    draw(text, "title", {}, label);
    draw(svg, "rect", { x: name, y: y + 4, width: Math.max(0.5, long), height: row - 8,
      fill: COLOURS[k % COLOURS.length], class: "bar" });
    draw(svg, "text", { x: name + long + 5, y: y + 14 }, show(value));
  });
}
function chart(parent) { return make(parent, "div", null, { class: "chart" }); }

function drawKinds() {
  const root = byId("kinds");
  root.replaceChildren();
  for (const [kind, c] of Object.entries(D.curves)) {
    make(root, "h2", kind === "layer" ? "Layers" : "Networks");
    const grid = make(root, "div", null, { class: "charts" });
    const part = { lo: 0, hi: 1 }, [time, value, gap] = [chart(grid), chart(grid), chart(grid)];
    lines(time, "Performance profile: time to proof", c.time,
      { lo: 1, log: true, label: "factor of the fastest" }, part);
    lines(value, "Performance profile: value", c.value,
      { lo: 1, log: false, label: "factor of the best value" }, part);
    lines(gap, "Mean gap over time", c.gap, { log: true, label: "seconds" }, part);
    if (c.measured) lines(chart(grid), "Performance profile: measured latency", c.measured,
      { lo: 1, log: false, label: "factor of the lowest" }, part);
    const column = (table, key) => D.tables[table].filter(r => r.contender in c.gap)
      .map(r => [r.contender, r[key]]);
    bars(chart(grid), "Solved runs", column("summary", "solved"));
    bars(chart(grid), "Proven optimal runs", column("summary", "optimal"));
    bars(chart(grid), "Primal integral (s, lower is better)", column("summary", "primal_integral_s"));
    bars(chart(grid), "Gap closed at the root", column("roots", "closed_at_root"), 1);
    [...grid.children].forEach(e => { if (!e.children.length) e.remove(); });
  }
}
function number(run, measure) {
  if (measure === "measured") return get(run, "measured_s");
  if (measure === "gap") return Math.max(1e-7, get(run, "gap"));
  return measure === "time" ? Math.max(1e-3, get(run, "time_s")) : get(run, "value_s");
}
function scatter() {
  const root = byId("scatter");
  root.replaceChildren();
  const [a, b, m] = ["sa", "sb", "sm"].map(id => byId(id).value);
  const other = new Map(D.runs.filter(r => get(r, "contender") === b)
    .map(r => [get(r, "instance") + "|" + get(r, "seed"), r]));
  const points = [];
  for (const r of D.runs) {
    if (get(r, "contender") !== a) continue;
    const s = other.get(get(r, "instance") + "|" + get(r, "seed"));
    if (s && number(r, m) && number(s, m)) points.push([number(r, m), number(s, m), r]);
  }
  if (!points.length) { make(root, "p", "No run in common.", { class: "note" }); return; }
  const flat = points.flatMap(p => [p[0], p[1]]);
  const axis = { lo: Math.min(...flat) * 0.9, hi: Math.max(...flat) * 1.1, log: true };
  const f = frame(root, `${m}: ${b} (up) against ${a} (right)`, { ...axis, label: a }, axis);
  draw(f.svg, "line", { x1: f.X(axis.lo), y1: f.Y(axis.lo), x2: f.X(axis.hi), y2: f.Y(axis.hi),
    stroke: "#8c959f", "stroke-dasharray": "4 3" });
  for (const [x, y, run] of points) {
    const dot = draw(f.svg, "circle", { cx: f.X(x), cy: f.Y(y), r: 3.5, fill: COLOURS[0],
      "fill-opacity": 0.55, style: "cursor:pointer" });
    draw(dot, "title", {}, `${get(run, "instance")}: ${show(x)} / ${show(y)}`);
    dot.addEventListener("click", () => drill(get(run, "instance")));
  }
}
function listRuns() {
  const [text, c, s] = ["fi", "fc", "fs"].map(id => byId(id).value);
  const found = D.runs.filter(r => get(r, "instance").includes(text)
    && (!c || get(r, "contender") === c) && (!s || get(r, "ended") === s));
  byId("count").textContent = `${found.length} of ${D.runs.length} runs`
    + (found.length > 300 ? "; the first 300 are listed" : "")
    + ". Choose one to see its instance.";
  const t = make(null, "table"), head = make(make(t, "thead"), "tr");
  const keys = ["instance", "contender", "seed", "ended", "value_s", "gap", "time_s", "peak_mib"];
  keys.forEach(k => make(head, "th", k));
  const body = make(t, "tbody");
  for (const r of found.slice(0, 300)) {
    const tr = make(body, "tr", null, { class: "run", tabindex: 0 });
    keys.forEach(k => make(tr, "td", show(get(r, k))));
    tr.addEventListener("click", () => drill(get(r, "instance")));
    tr.addEventListener("keydown", e => { if (e.key === "Enter") drill(get(r, "instance")); });
  }
  byId("list").replaceChildren(t);
}
function partition(parent, label, tiles, names) {
  const fig = make(parent, "figure"), H = Math.max(...tiles.map(t => t[2])),
    W = Math.max(...tiles.map(t => t[4])), w = 200, h = Math.min(300, Math.max(20, w * H / W));
  const svg = draw(fig, "svg", { viewBox: `0 0 ${w} ${h}`, width: w, height: h, role: "img",
    "aria-label": "partition" });
  for (const [device, y0, y1, x0, x1] of tiles) {
    const k = names.indexOf(device);
    const box = { x: x0 * w / W, y: y0 * h / H, width: (x1 - x0) * w / W,
      height: (y1 - y0) * h / H };
    const rect = draw(svg, "rect", { ...box, fill: `hsl(${k * 47 % 360} 60% 72%)`,
      stroke: "#1b1f24", "stroke-width": 0.7 });
    draw(rect, "title", {}, `${device}: rows ${y0}-${y1}, columns ${x0}-${x1}`);
    if (box.width > 22 && box.height > 12) draw(svg, "text", { x: box.x + box.width / 2,
      y: box.y + box.height / 2 + 4, "text-anchor": "middle", style: "fill:#1b1f24" }, device);
  }
  make(fig, "figcaption", label);
}
function history(parent, runs) {
  const found = runs.filter(r => get(r, "trace").length);
  const points = found.flatMap(r => get(r, "trace"));
  const known = points.flatMap(p => [p[1], p[2]]).filter(v => v !== null && v > 0);
  if (!known.length) return;
  const lo = Math.max(1e-3, Math.min(...points.map(p => p[0])));
  const hi = Math.max(lo * 1.5, ...points.map(p => p[0])), high = Math.max(...known);
  const low = Math.max(Math.min(...known), high * 1e-3);
  const f = frame(parent, "Value (solid) and bound (dashed) over time, seconds",
    { lo, hi, log: true, label: "seconds since the start of the build" },
    { lo: low / 1.05, hi: high * 1.05, log: true });
  const legend = make(parent, "div", null, { class: "legend" });
  found.forEach((r, k) => {
    const colour = COLOURS[k % COLOURS.length];
    [1, 2].forEach(column => {
      let d = "";
      for (const p of [...get(r, "trace"), [hi, ...get(r, "trace").slice(-1)[0].slice(1)]]) {
        if (p[column] === null || p[column] < low) continue;
        const x = f.X(Math.max(lo, p[0])).toFixed(1), y = f.Y(p[column]).toFixed(1);
        d += d ? `H${x}V${y}` : `M${x} ${y}`;
      }
      if (d) draw(f.svg, "path", { d, fill: "none", stroke: colour, "stroke-width": 1.6,
        "stroke-dasharray": column === 2 ? "4 3" : "none" });
    });
    const item = make(legend, "span");
    make(item, "i", null, { style: `background:${colour}` });
    const seed = new Set(runs.map(r => get(r, "seed"))).size > 1;
    item.append(get(r, "contender") + (seed ? `, seed ${get(r, "seed")}` : ""));
  });
}
function drill(instance) {
  const root = byId("drill"), runs = D.runs.filter(r => get(r, "instance") === instance);
  root.replaceChildren();
  make(root, "h2", instance);
  const plain = D.fields.filter(n => !["partitions", "instance", "trace"].includes(n));
  table(root, runs.map(r => Object.fromEntries(plain.map(n => [n, get(r, n)]))));
  history(chart(root), runs);
  const maps = make(root, "div", null, { class: "maps" });
  const names = [...new Set(runs.flatMap(r => (get(r, "partitions") || [])
    .flatMap(p => p[1].map(t => t[0]))))].sort();
  for (const r of runs)
    for (const [label, tiles] of get(r, "partitions") || [])
      if (tiles.length) partition(maps, `${get(r, "contender")} ${label} ${show(get(r, "value_s"))} s`,
        tiles, names);
  root.scrollIntoView({ behavior: "auto" });
}
function options(id, values, all) {
  if (all) make(byId(id), "option", all, { value: "" });
  values.forEach(v => make(byId(id), "option", v, { value: v }));
}
function start() {
  byId("rules").textContent = D.rules;
  for (const [name, title] of Object.entries(D.titles)) {
    const bad = D.bad.includes(name), rows = D.tables[name];
    if (!rows.length && name !== "disagreements") continue;
    const section = make(byId("tables"), "section", null, { class: bad && rows.length ? "bad" : "" });
    make(section, "h2", rows.length ? title : "No contradictions between bounds and values");
    if (rows.length) tables(section, rows);
  }
  const contenders = [...new Set(D.runs.map(r => get(r, "contender")))];
  options("sa", contenders);
  options("sb", contenders);
  byId("sb").value = contenders[Math.min(1, contenders.length - 1)];
  options("fc", contenders, "all contenders");
  options("fs", [...new Set(D.runs.map(r => get(r, "ended")))], "all ends");
  ["sa", "sb", "sm"].forEach(id => byId(id).addEventListener("change", scatter));
  ["fi", "fc", "fs"].forEach(id => byId(id).addEventListener("input", listRuns));
  const redraw = () => { drawKinds(); scatter(); };
  addEventListener("resize", redraw);
  redraw();
  listRuns();
}
start();
