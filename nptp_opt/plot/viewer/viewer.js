"use strict";
// Draws the document of schema nptp-opt/viewer/1 (docs/viewer.md). All numbers are in it: here they are
// scaled to pixels and written with units. Names go into the page as text nodes and attributes only.
const D = JSON.parse(document.getElementById("data").textContent);
const PLANS = D.plans;
const byId = id => document.getElementById(id);

// Okabe and Ito's colours, told apart by all kinds of colour vision; from the ninth device on with a pattern.
const COLOURS = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#a6a6a6"];
const INK = ["#000", "#000", "#000", "#000", "#000", "#000", "#fff", "#000"];
const STROKES = ["", "M0 8L8 0", "M0 0L8 8", "M0 4H8", "M4 0V8", "M0 8L8 0M0 0L8 8", "M0 4H8M4 0V8", "M2 2H4V4H2Z"];
const MOST_LABELS = 24, MOST_ARROWS = 48, PAPER = 660, MOST_SLENDER = 16, MOST_ROWS = 16, MOST_NAMED = 8, MOST_GUESTS = 18;
const SPOTS = [.2, .3, .12, .4, .5, .6, .7, .8];
const SECONDS_OF_PLAYING = 12, FRAME_MS = 30;

const state = {
  time: 0, playing: false, zoom: 1, width: 0, paper: false,
  views: PLANS.map(() => ({ step: 0, map: null, device: null, arrows: [], tiles: [], texts: [] })),
};

const roomIn = node => state.paper ? PAPER : node.clientWidth;

// -- elements ---------------------------------------------------------------------------------

function fill(node, attrs, children) {
  for (const [key, value] of Object.entries(attrs || {})) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}
const make = (tag, attrs, ...children) => fill(document.createElement(tag), attrs, children);
const draw = (tag, attrs, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attrs, children);
const tip = text => draw("title", {}, text);

// -- numbers and names as text ----------------------------------------------------------------

const digits = (value, count) => Number(value.toPrecision(count)).toString();
function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1) return digits(value, 4) + " s";
  return value >= 1e-3 || value === 0 ? digits(value * 1e3, 3) + " ms" : digits(value * 1e6, 3) + " µs";
}
function bytes(value) {
  if (value === null || value === undefined) return "–";
  const unit = value >= 1e9 ? [1e9, " GB"] : value >= 1e6 ? [1e6, " MB"] : value >= 1e3 ? [1e3, " kB"] : [1, " B"];
  return digits(value / unit[0], 3) + unit[1];
}
const share = value => value === null ? "–" : digits(value * 100, 3) + " %";
const nameOf = (plan, device) => plan.devices[device].name;
const added = step => step.critical_compute_s + step.critical_exchange_s;
function layersOf(step) {
  if (!step.layers.length) return "collecting the results";
  const first = step.layers[0], last = step.layers[step.layers.length - 1];
  return first === last ? first : `${first} .. ${last}`;
}
const stepText = (plan, number) => `step ${number} (${layersOf(plan.steps[number])})`;
const ROLES = { input: "reads", inner: "inside:", output: "makes" };

// -- colours and patterns ---------------------------------------------------------------------

const colour = device => COLOURS[device % COLOURS.length];
const ink = device => INK[device % INK.length];
const paint = device => device < COLOURS.length ? colour(device) : `url(#device-${device})`;

function hatch(id, size, turn, ...marks) {
  return draw("pattern", { id, width: size, height: size, patternUnits: "userSpaceOnUse", patternTransform: turn },
    ...marks);
}
function patterns() {
  const defs = draw("defs", {});
  const most = Math.max(...PLANS.map(plan => plan.devices.length));
  for (let i = 0; i < most; i++) {
    const stroke = STROKES[Math.floor(i / COLOURS.length) % STROKES.length];
    if (i >= COLOURS.length) defs.append(hatch(`device-${i}`, 8, null,
      draw("rect", { width: 8, height: 8, fill: colour(i) }),
      draw("path", { d: stroke, stroke: ink(i), "stroke-width": 1.2, fill: "none" })));
    defs.append(hatch(`halo-${i}`, 7, "rotate(45)",
      draw("rect", { width: 4, height: 7, fill: colour(i) }),
      draw("rect", { x: 4, width: 3, height: 7, fill: "#000", "fill-opacity": .55 })));
  }
  for (let i = 0; i < most; i++) defs.append(hatch(`wait-${i}`, 6, "rotate(45)",
    draw("rect", { width: 2.2, height: 6, fill: colour(i), "fill-opacity": .85 })));
  defs.append(
    hatch("waiting", 6, "rotate(45)", draw("rect", { width: 1.5, height: 6, fill: "var(--soft)", "fill-opacity": .6 })),
    hatch("twice", 6, "rotate(-45)", draw("rect", { width: 2, height: 6, fill: "var(--ink)", "fill-opacity": .7 })),
    draw("marker", { id: "head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
      draw("path", { d: "M0 0L8 4L0 8Z", fill: "var(--ink)" })));
  byId("defs").append(defs);
}
function swatch(fillWith, attrs) {
  return draw("svg", { width: 16, height: 12, "aria-hidden": "true" },
    draw("rect", { x: 1, y: 1, width: 14, height: 10, fill: fillWith, stroke: "var(--ink)", ...attrs }));
}

// -- totals -----------------------------------------------------------------------------------

function totals() {
  byId("title").textContent = PLANS.map(plan => plan.model).filter((m, k, all) => all.indexOf(m) === k).join(", ");
  for (const plan of PLANS) {
    const t = plan.totals;
    const pairs = [
      ["latency, predicted", seconds(t.latency_s)],
      plan.measured_s === null ? null : ["latency, measured", seconds(plan.measured_s)],
      ["bound: no plan is faster", seconds(t.bound_s)],
      ["gap to the bound", share(t.gap)],
      ["sent in all", bytes(t.bytes)],
      t.period_s === null ? null : ["between results of a stream", seconds(t.period_s)],
      t.energy_j === null ? null : ["energy", digits(t.energy_j, 3) + " J"],
      busiestLink(plan),
      ["if all waited for all after each step (none does)", seconds(t.synchronous_s), "aside"],
    ];
    byId("totals").append(
      make("h3", {}, plan.name + (plan.planner && plan.planner !== plan.name ? `: planner ${plan.planner}` : "") +
        `, ${plan.devices.length} devices of ${plan.cluster} (${plan.network} network)`),
      make("dl", { class: "totals" }, ...pairs.filter(Boolean).map(([word, value, kind]) =>
        make("div", {}, make("dt", {}, word), make("dd", { class: kind }, value)))),
      make("p", { class: "path" }, pathText(plan)));
    if (plan.measured) byId("totals").append(make("p", { class: "path run" }, runText(plan)));
  }
}
// What carries the messages, in one figure: near 100 % nothing but fewer bytes or a faster link helps.
function busiestLink(plan) {
  const latency = plan.totals.latency_s, told = (name, busy) =>
    [`${name} busy`, `${seconds(busy)} (${share(latency ? busy / latency : 0)})`];
  if (plan.medium_s !== null) return told("the shared medium is", plan.medium_s);
  const links = plan.devices.flatMap(device => [[device.up_s, `${device.name} out`], [device.down_s, `${device.name} in`]]);
  const [busy, name] = links.reduce((one, other) => other[0] > one[0] ? other : one);
  return busy > 0 ? told(`the busiest link, ${name}, is`, busy) : null;
}
// Where a run is not what was predicted: computing (this machine, or a board, was slower), or the rest.
function runText(plan) {
  const over = plan.measured_s - plan.totals.latency_s, at = share(Math.abs(over) / plan.totals.latency_s);
  const told = (plan.void ? "VOID: this machine was too slow, or too busy, to emulate the devices' speeds. " : "") +
    `The run took ${seconds(Math.abs(over))} ${over < 0 ? "less" : "more"} than predicted (${at}). `;
  const slow = plan.slower.filter(one => one.seconds > .02 * plan.totals.latency_s);
  if (!slow.length) return told + "No device computed noticeably longer than the plan says.";
  const more = slow.length > 1 ? `, and ${slow.length - 1} more device${slow.length > 2 ? "s" : ""} did` : "";
  return told + `${nameOf(plan, slow[0].device)} computed ${seconds(slow[0].seconds)} longer than the plan says${more}: ` +
    "slower than its speed there.";
}
// What the latency consists of: nothing but this chain makes it longer or shorter.
function pathText(plan) {
  const exchange = plan.steps.reduce((sum, step) => sum + step.critical_exchange_s, 0);
  const busy = plan.devices.map((device, i) => [device.critical_s, i]).filter(([s]) => s > 0).sort((a, b) => b[0] - a[0]);
  const parts = busy.slice(0, MOST_NAMED).map(([s, i]) => `${nameOf(plan, i)} computes ${seconds(s)}`);
  const others = busy.slice(MOST_NAMED);
  if (others.length) parts.push(`${others.length} more device${others.length > 1 ? "s compute" : " computes"} ` +
    seconds(others.reduce((sum, [s]) => sum + s, 0)));
  if (exchange > 0) parts.push(`messages take ${seconds(exchange)}, waiting for the ` +
    `${plan.network === "shared" ? "medium" : "links"} included`);
  return `What the ${seconds(plan.totals.latency_s)} are (the critical path): ${parts.join("; ")}.`;
}

// -- steps ------------------------------------------------------------------------------------

function steps() {
  const longest = Math.max(...PLANS.map(plan => plan.totals.latency_s));
  PLANS.forEach((plan, p) => {
    const row = make("div", { class: "row", role: "listbox", "aria-orientation": "horizontal",
      "aria-label": `steps of ${plan.name}`, style: `width:${100 * plan.totals.latency_s / longest || 100}%`,
      keydown: event => keyOnSteps(event, p) });
    plan.steps.forEach((step, k) => row.append(stepButton(plan, p, step, k)));
    byId("steps").append(make("h3", {}, `${plan.name}, ${seconds(plan.totals.latency_s)}`),
      make("div", { class: "scroll" }, row));
    state.views[p].row = row;
  });
}
function stepButton(plan, p, step, k) {
  const exchange = added(step) ? 100 * step.critical_exchange_s / added(step) : 0;
  const text = `step ${k}, ${layersOf(step)}: adds ${seconds(added(step))} (computing ` +
    `${seconds(step.critical_compute_s)}, exchange ${seconds(step.critical_exchange_s)})`;
  return make("button", { type: "button", class: "step", role: "option", title: text, "aria-label": text,
    style: `flex-grow:${Math.max(added(step), 1e-9) * 1e6}`, click: () => choose(p, k, true) },
    make("i", { style: `width:${exchange}%` }), make("span", {}, String(k)),
    make("span", { class: "adds" }, seconds(added(step))), make("span", { class: "layers" }, layersOf(step)));
}
function keyOnSteps(event, p) {
  const count = PLANS[p].steps.length, at = state.views[p].step;
  const to = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1, Home: 0, End: count - 1 };
  if (!(event.key in to)) return;
  event.preventDefault();
  choose(p, Math.min(count - 1, Math.max(0, to[event.key])), true);
  state.views[p].row.children[state.views[p].step].focus();
}
// `moves`: the time goes to where the step begins; without, the step follows the time.
function choose(p, k, moves) {
  const view = state.views[p];
  if (view.step !== k) { view.step = k; view.map = null; }
  markStep(p);
  stepMap(p);
  if (moves) {
    stop();
    setTime(PLANS[p].steps[k].start_s, p);
  }
}
function markStep(p) {
  const view = state.views[p];
  [...view.row.children].forEach((button, k) => {
    button.setAttribute("aria-selected", k === view.step);
    button.tabIndex = k === view.step ? 0 : -1;
  });
  for (const [node, step] of view.marks || []) node.classList.toggle("own", step === view.step);
}

// -- the map of a step ------------------------------------------------------------------------

function maps() {
  byId("maps").replaceChildren();
  PLANS.forEach((plan, p) => {
    state.views[p].place = make("div", {});
    byId("maps").append(state.views[p].place);
    stepMap(p);
  });
}
const moved = (step, map) => step.transfers.filter(move => map.role === "input" && move.tensor === map.tensor);
function bestMap(step) {
  const exchanged = step.maps.findIndex(map => moved(step, map).length);
  return exchanged >= 0 ? exchanged : Math.max(0, step.maps.length - 1);
}
function stepMap(p) {
  const plan = PLANS[p], view = state.views[p], step = plan.steps[view.step];
  if (view.map === null) view.map = bestMap(step);
  const total = step.transfers.reduce((sum, move) => sum + move.bytes, 0);
  const what = step.device === null ? "" : `, on ${nameOf(plan, step.device)}`;
  const kind = { spatial: "a partition", global: "a reduction", gather: "whole" }[step.kind];
  const facts = `${kind}${what}; from ${seconds(step.start_s)} to ${seconds(step.end_s)}; adds ` +
    `${seconds(added(step))}: computing ${seconds(step.critical_compute_s)}, exchange ` +
    `${seconds(step.critical_exchange_s)}; ${step.transfers.length} transfers, ${bytes(total)}.`;
  const map = step.maps[view.map];
  view.arrows = []; view.tiles = []; view.texts = [];
  view.place.replaceChildren(
    make("h3", {}, `${plan.name}: ${stepText(plan, view.step)}`), make("p", { class: "note" }, facts),
    make("div", { class: "controls" }, mapSelect(p, step), deviceSelect(p, plan)),
    map ? mapFigure(p, plan, step, map) : make("p", {}, "No map: nothing is partitioned."),
    transferTable(plan, step));
  showNow(p);
}
function mapSelect(p, step) {
  const select = make("select", { class: "pick-map", change: () => { state.views[p].map = +select.value; stepMap(p); } },
    ...step.maps.map((map, k) => make("option", { value: k, selected: k === state.views[p].map },
      `${ROLES[map.role]} ${map.tensor}, ${map.channels} × ${map.height} × ${map.width}`)));
  return make("label", {}, "map ", select);
}
function deviceSelect(p, plan) {
  const chosen = state.views[p].device;
  const select = make("select", { class: "pick-device",
    change: () => chooseDevice(p, select.value === "" ? null : +select.value) },
    make("option", { value: "" }, "all"),
    ...plan.devices.map((device, i) => make("option", { value: i, selected: i === chosen }, `${i}: ${device.name}`)));
  return make("label", {}, "device ", select);
}
function chooseDevice(p, device) {
  state.views[p].device = device;
  stepMap(p);
  if (onlyPath(PLANS[p])) timelines();
}
function mapScale(map, width) {
  const room = { width: Math.max(120, Math.min(width, 620)), height: 440 };
  const slender = Math.max(map.height, map.width) > MOST_SLENDER * Math.min(map.height, map.width);
  const x = room.width / map.width, y = room.height / map.height, both = Math.min(x, y);
  const sides = slender ? { x, y } : { x: both, y: both };
  return { box: ([y0, y1, x0, x1]) =>
    ({ x: x0 * sides.x, y: y0 * sides.y, width: (x1 - x0) * sides.x, height: (y1 - y0) * sides.y }),
    width: map.width * sides.x, height: map.height * sides.y };
}
const middle = box => [box.x + box.width / 2, box.y + box.height / 2];
const sidesText = ([y0, y1, x0, x1]) => `rows ${y0} to ${y1}, columns ${x0} to ${x1}`;

// Where devices stand that own nothing of a map: in one column by name, many in several by number.
function guestColumns(count) {
  const columns = Math.ceil(count / MOST_GUESTS), rows = Math.ceil(count / columns), side = columns > 1 ? 26 : 58;
  return { width: count && 30 + columns * (side + 4), height: count && rows * (columns > 1 ? 20 : 24),
    box: (k, left, height) => ({ x: left + 34 + Math.floor(k / rows) * (side + 4),
      y: (k % rows + .5) * height / rows - (columns > 1 ? 8 : 10), width: side, height: columns > 1 ? 16 : 20 }) };
}
function mapFigure(p, plan, step, map) {
  const view = state.views[p], moves = moved(step, map);
  const tiles = map.role === "inner" ? map.computed : map.owned;
  const owners = new Set(tiles.map(([device]) => device));
  const guests = [...new Set(moves.map(move => move.to))].filter(device => !owners.has(device)).sort((a, b) => a - b);
  const column = guestColumns(guests.length);
  const scale = mapScale(map, roomIn(view.place) - column.width - 4);
  const width = scale.width + column.width + 2, height = Math.max(scale.height, column.height) + 2;
  const svg = draw("svg", { width, height, viewBox: `-1 -1 ${width} ${height}`, role: "img",
    "aria-label": `map ${map.tensor} of ${stepText(plan, view.step)}` });
  const place = new Map();
  for (const [device, ...sides] of tiles) {
    const box = scale.box(sides);
    place.set(device, middle(box));
    svg.append(tileOf(p, plan, map, device, sides, box));
  }
  guests.forEach((device, k) => {
    const box = column.box(k, scale.width, height);
    place.set(device, [box.x, box.y + 10]);
    svg.append(tileOf(p, plan, map, device, null, box));
  });
  if (map.repeated && byId("repeated").checked) for (const sides of map.repeated)
    svg.append(draw("rect", { ...scale.box(sides), fill: "url(#twice)", class: "twice" },
      tip(`computed by two devices: ${sidesText(sides)}`)));
  const own = moves.filter(move => view.device === null || [move.from, move.to].includes(view.device));
  if (byId("halos").checked) own.forEach(move => move.tile && svg.append(halo(plan, move, scale)));
  for (const [device, ...sides] of map.needs || []) if (device === view.device)
    svg.append(draw("rect", { ...scale.box(sides), class: "need" }));
  tiles.forEach(([device, ...sides]) => label(view, svg, plan, device, scale.box(sides)));
  if (byId("arrows").checked && own.length <= MOST_ARROWS) {
    own.forEach(move => arrow(view, svg, plan, move, scale, place));
    if (own.length <= MOST_LABELS) view.arrows.forEach(drawn => arrowLabel(view, svg, drawn));
  }
  return make("figure", { style: "margin:6px 0" }, svg, make("figcaption", { class: "note" },
    caption(map, guests) + (own.length > MOST_ARROWS ? ` ${own.length} transfers: choose a device to see its arrows.` : "")));
}
function caption(map, guests) {
  if (map.role === "inner") return map.repeated.length ?
    "Who computes what of a map inside the fused step; hatched is computed by more than one device." :
    "Who computes what of a map inside the fused step; nothing is computed twice.";
  if (map.role === "output") return "Who computes, and from then on owns, which tile.";
  return "Who owns what before the step. Hatched, in the receiver's colour: what is sent; arrows lead to who needs it" +
    (guests.length ? ", at the right those who own nothing of this map." : ".");
}
function tileOf(p, plan, map, device, sides, box) {
  const view = state.views[p], rect = draw("rect", { ...box, class: "tile", fill: paint(device),
    "fill-opacity": map.role === "inner" ? .6 : 1, click: () => chooseDevice(p, view.device === device ? null : device) },
    tip(`${nameOf(plan, device)}${sides ? ": " + sidesText(sides) : ""}`));
  if (view.device !== null && view.device !== device) rect.classList.add("dim");
  view.tiles.push([rect, device]);
  if (sides) return rect;
  const group = draw("g", {}, rect);
  label(view, group, plan, device, box);
  return group;
}
// In the corner: arrows lead to the middle.
function label(view, svg, plan, device, box) {
  const name = nameOf(plan, device), text = box.width > 6.6 * name.length && box.height > 13 ? name : String(device);
  if (box.width < 6.6 * text.length || box.height < 11) return;
  const x = box.x + Math.min(4, (box.width - 6.6 * text.length) / 2), y = box.y + Math.min(14, box.height / 2 + 4);
  view.texts.push([x + 3.3 * text.length, y, 3.3 * text.length]);
  svg.append(draw("text", { x, y, class: "name", style: `fill:${ink(device)};paint-order:stroke;stroke:${colour(device)};stroke-width:4px` }, text));
}
function halo(plan, move, scale) {
  return draw("rect", { ...scale.box(move.tile), class: "halo", fill: `url(#halo-${move.to})`, stroke: "#000",
    "stroke-width": .6 }, tip(moveText(plan, move)));
}
const moveText = (plan, move) => `${nameOf(plan, move.from)} to ${nameOf(plan, move.to)}: ${bytes(move.bytes)}, ` +
  (move.tile ? sidesText(move.tile) : "a partial result");

function arrow(view, svg, plan, move, scale, place) {
  const from = move.tile ? middle(scale.box(move.tile)) : place.get(move.from), to = place.get(move.to);
  if (!from || !to) return;
  const bend = .12 * (move.from < move.to ? 1 : -1);
  const via = [(from[0] + to[0]) / 2 + bend * (to[1] - from[1]), (from[1] + to[1]) / 2 - bend * (to[0] - from[0])];
  const d = `M${from}Q${via} ${to}`;
  const path = draw("path", { class: "arrow", d, "marker-end": "url(#head)" }, tip(moveText(plan, move)));
  const dot = draw("circle", { r: 5, class: "dot", visibility: "hidden" });
  svg.append(draw("path", { class: "casing", d }), path, dot);
  const at = t => [0, 1].map(k => (1 - t) ** 2 * from[k] + 2 * t * (1 - t) * via[k] + t ** 2 * to[k]);
  view.arrows.push({ move, path, dot, at });
}
// At the first spot along the arrow where no other text is; without one its title and the list say it.
function arrowLabel(view, svg, { move, at }) {
  const text = bytes(move.bytes), half = 3.3 * text.length;
  const isFree = ([x, y]) => view.texts.every(([a, b, other]) => Math.abs(a - x) > half + other || Math.abs(b - y) > 12);
  const spot = SPOTS.map(at).map(([x, y]) => [x, y + 4]).find(isFree);
  if (!spot) return;
  view.texts.push([...spot, half]);
  svg.append(draw("text", { class: "over name", "text-anchor": "middle", x: spot[0], y: spot[1] }, text));
}
function transferTable(plan, step) {
  if (!step.transfers.length) return make("p", { class: "note" }, "Nothing is sent for this step.");
  const rows = step.transfers.map(move => [nameOf(plan, move.from), nameOf(plan, move.to), move.tensor,
    move.tile ? sidesText(move.tile) : "partial result", bytes(move.bytes)]);
  return make("details", {}, make("summary", {}, `${rows.length} transfers`),
    make("div", { class: "scroll" }, table(["from", "to", "map", "rectangle", "bytes"], rows)));
}
function table(head, rows, title) {
  return make("table", {}, title ? make("caption", {}, title) : null,
    make("thead", {}, make("tr", {}, ...head.map(word => make("th", { scope: "col" }, word)))),
    make("tbody", {}, ...rows.map(row => make("tr", {}, ...row.map(cell =>
      cell instanceof Node && cell.nodeName === "TD" ? cell : make("td", {}, cell))))));
}

// -- the timeline -----------------------------------------------------------------------------

const GUTTER = 86, AXIS = 22;
const PHASES = { compute: 1, pad: .45 };

function timelines() {
  const scrolled = document.querySelector("#timeline .scroll");
  const left = scrolled ? scrolled.scrollLeft : 0;
  byId("timeline").replaceChildren();
  PLANS.forEach((plan, p) => byId("timeline").append(make("h3", {}, `${plan.name}, ${seconds(plan.totals.latency_s)}` +
    (plan.measured ? `; measured (above the prediction): ${seconds(plan.measured_s)}` : "") +
    (onlyPath(plan) ? `; on the critical path: ${shownDevices(plan, p).size} of ${plan.devices.length} devices` : "")), lanes(plan, p)));
  const boxes = [...document.querySelectorAll("#timeline .scroll")];
  for (const box of boxes) {
    box.scrollLeft = left;
    box.addEventListener("scroll", () => boxes.forEach(other => { other.scrollLeft = box.scrollLeft; }));
  }
  PLANS.forEach((_, p) => { markStep(p); showNow(p); });
}
// Beyond MOST_ROWS devices nobody follows all of them: then the chosen one, both ends of the critical path, and
// who computes on it (who only sends or receives there may be anyone in the queue of the source or sink).
const crowded = plan => plan.devices.length > MOST_ROWS;
const onlyPath = plan => crowded(plan) && byId("few").checked;
function shownDevices(plan, p) {
  if (!onlyPath(plan)) return new Set(plan.devices.keys());
  const ends = [plan.path[0], plan.path[plan.path.length - 1]].filter(Boolean);
  const shown = new Set(ends.map(({ stretch }) => plan.timeline[stretch].device));
  plan.devices.forEach((device, i) => { if (device.critical_s > 0 || i === state.views[p].device) shown.add(i); });
  return shown;
}
// `rows` by number of device, with holes for those that are not shown.
function layout(plan, p) {
  const rows = [], shown = shownDevices(plan, p);
  let y = AXIS;
  plan.devices.forEach((device, i) => {
    if (!shown.has(i)) return;
    const row = { label: device.name, device: i, top: y };
    if (plan.measured) { row.measured = y; y += 13; }
    row.compute = y; y += 18;
    if (plan.network === "switched") { row.out = y; row.into = y + 8; y += 17; }
    rows[i] = row;
    y += 7;
  });
  const medium = plan.network === "shared" ? { label: "medium", out: y, into: null, tall: 16 } : null;
  return { rows, medium, height: y + (medium ? 22 : 0) };
}
function ticks(end) {
  const rough = end / 6 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(size => size >= rough);
  return Array.from({ length: Math.floor(end / step + 1e-9) + 1 }, (_, k) => k * step);
}
function lanes(plan, p) {
  const found = layout(plan, p), view = state.views[p];
  const width = Math.max(180, (roomIn(byId("timeline")) - GUTTER - 2) * state.zoom);
  const x = time => 4 + (width - 12) * time / (D.end_s || 1);
  const svg = draw("svg", { width, height: found.height, role: "img", "aria-label": `timeline of ${plan.name}`,
    click: event => setTime((event.clientX - svg.getBoundingClientRect().left - 4) / (width - 12) * D.end_s, p) });
  view.marks = []; view.x = x;
  axis(svg, plan, x, width, found.height);
  const isShown = part => found.rows[part.device] !== undefined;
  plan.waits.filter(isShown).forEach(wait => svg.append(...waitBar(plan, x, wait, found.rows[wait.device].compute)));
  (plan.measured || []).filter(isShown)
    .forEach(span => svg.append(spanBar(plan, x, span, found.rows[span.device].measured)));
  plan.timeline.forEach(stretch => stretchBars(plan, p, svg, x, found, stretch));
  svg.append(draw("path", { class: "chain", d: chain(plan, x, found) }));
  view.cursor = draw("line", { class: "cursor", y1: AXIS - 6, y2: found.height });
  svg.append(view.cursor);
  return make("div", { class: "lanes" }, gutter(found), make("div", { class: "scroll", tabindex: 0,
    role: "group", "aria-label": `timeline of ${plan.name}` }, svg));
}
function axis(svg, plan, x, width, height) {
  for (const time of ticks(D.end_s)) svg.append(
    draw("line", { class: "grid", x1: x(time), x2: x(time), y1: AXIS - 6, y2: height }),
    draw("text", { class: "soft", x: x(time), y: 12, "text-anchor": time === 0 ? "start" :
      x(time) > width - 30 ? "end" : "middle" }, seconds(time)));
  const bound = plan.totals.bound_s;
  if (bound !== null) svg.append(draw("line", { class: "bound", x1: x(bound), x2: x(bound), y1: AXIS - 6, y2: height },
    tip(`bound: no plan is faster than ${seconds(bound)}`)));
}
function gutter(found) {
  const svg = draw("svg", { width: GUTTER, height: found.height });
  const cut = name => name.length > 13 ? name.slice(0, 12) + "…" : name;
  for (const row of [...found.rows.filter(Boolean), ...(found.medium ? [found.medium] : [])]) {
    const y = (row.compute ?? row.out) + 12;
    if (row.device !== undefined) svg.append(draw("rect", { x: 0, y: y - 9, width: 9, height: 10, fill: paint(row.device),
      stroke: "var(--ink)", "stroke-width": .6 }));
    svg.append(draw("text", { x: row.device === undefined ? 0 : 13, y }, cut(row.label), tip(row.label)));
    if (row.device !== undefined && row.out !== undefined) svg.append(
      draw("text", { class: "soft", x: 13, y: row.into + 6, style: "font-size:9px" }, "out / in"));
    if (row.measured !== undefined) svg.append(
      draw("text", { class: "soft", x: 13, y: row.measured + 8, style: "font-size:9px" }, "measured"));
  }
  return svg;
}
function bar(x, part, y, height, fillWith, attrs, text) {
  return draw("rect", { x: x(part.start_s), y, width: Math.max(.6, x(part.end_s) - x(part.start_s)), height,
    fill: fillWith, ...attrs }, tip(text));
}
// Hatched in the colour of whom it waits for, with the name where there is room.
function waitBar(plan, x, wait, y) {
  const fillWith = wait.peer === null ? "url(#waiting)" : `url(#wait-${wait.peer})`;
  const rect = bar(x, wait, y, 16, fillWith, { class: "wait" }, waitText(plan, wait));
  const name = wait.peer === null ? "" : nameOf(plan, wait.peer);
  if (!name || x(wait.end_s) - x(wait.start_s) < 6.6 * name.length + 6) return [rect];
  return [rect, draw("text", { class: "over name", "text-anchor": "middle",
    x: (x(wait.start_s) + x(wait.end_s)) / 2, y: y + 12 }, name)];
}
function spanBar(plan, x, span, y) {
  const opacity = PHASES[span.phase], blank = span.phase === "wait" ? "url(#waiting)" : "var(--soft)";
  const peer = span.peer === undefined ? "" : ` (${nameOf(plan, span.peer)})`;
  return bar(x, span, y, 11, opacity ? paint(span.device) : blank, { class: `span ${span.phase}`,
    "fill-opacity": opacity || .8 }, `measured: ${nameOf(plan, span.device)} ${span.phase}${peer}` +
    `${span.step === null ? "" : ", step " + span.step}, ` +
    `${seconds(span.end_s - span.start_s)} from ${seconds(span.start_s)}`);
}
function stretchText(plan, stretch) {
  const who = nameOf(plan, stretch.device), times = `${seconds(stretch.end_s - stretch.start_s)} from ` +
    `${seconds(stretch.start_s)}${stretch.critical ? "; on the critical path" : ""}`;
  if (stretch.peer === undefined) return `${who} computes ${stepText(plan, stretch.step)}: ${times}`;
  const line = stretch.link_s[0] - stretch.start_s;
  return `${who} sends to ${nameOf(plan, stretch.peer)} for ${stepText(plan, stretch.step)}: ${times}` +
    (line > 1e-9 ? `; ${seconds(line)} of it waiting for the link` : "");
}
// What the message that ends a wait did meanwhile: it was not there yet, stood in line, was on its way.
function waitParts(plan, wait) {
  const message = plan.timeline.find(part => part.peer === wait.device && part.step === wait.step &&
    part.device === wait.peer && part.end_s === wait.end_s);
  if (!message) return "";
  const from = time => Math.max(wait.start_s, time), link = plan.network === "shared" ? "medium" : "link";
  const parts = [[from(message.start_s) - wait.start_s, "until it begins to send"],
    [from(message.link_s[0]) - from(message.start_s), `while others have the ${link}`],
    [wait.end_s - from(message.link_s[0]), "on the way"]];
  return ": " + parts.filter(([s]) => s > 1e-9).map(([s, word]) => `${seconds(s)} ${word}`).join(", ");
}
const waitText = (plan, wait) => `${nameOf(plan, wait.device)} waits ${seconds(wait.end_s - wait.start_s)} ` +
  (wait.peer === null ? "" : `for ${nameOf(plan, wait.peer)} `) + `before ${stepText(plan, wait.step)}` +
  waitParts(plan, wait);
// Whom a device waits for in all, the longest first.
function waitsOf(plan, i) {
  const spent = new Map();
  for (const wait of plan.waits) if (wait.device === i)
    spent.set(wait.peer, (spent.get(wait.peer) || 0) + wait.end_s - wait.start_s);
  return [...spent].sort((a, b) => b[1] - a[1])
    .map(([peer, s]) => `${seconds(s)} for ${peer === null ? "no one" : nameOf(plan, peer)}`).join(", ");
}

function stretchBars(plan, p, svg, x, found, stretch) {
  const attrs = { class: stretch.critical ? "stretch critical" : "stretch", stroke: "var(--paper)", "stroke-width": .7,
    click: event => { event.stopPropagation(); choose(p, stretch.step, false); setTime(stretch.start_s, p, true); } };
  const text = stretchText(plan, stretch), view = state.views[p];
  const put = node => { svg.append(node); view.marks.push([node, stretch.step]); };
  if (stretch.peer === undefined) {
    const row = found.rows[stretch.device];
    if (row) put(bar(x, stretch, row.compute, 16, paint(stretch.device), attrs, text));
    return;
  }
  for (const [y, height] of messageLanes(found, stretch)) {
    const on = { start_s: stretch.link_s[0], end_s: stretch.link_s[1] };
    put(draw("line", { class: "queue", x1: x(stretch.start_s), x2: x(stretch.end_s), y1: y + height / 2,
      y2: y + height / 2 }, tip(text)));
    put(bar(x, on, y, height, paint(stretch.device), { ...attrs, class: attrs.class + " message" }, text));
  }
}
function messageLanes(found, stretch) {
  if (found.medium) return [[found.medium.out, 14]];
  const from = found.rows[stretch.device], to = found.rows[stretch.peer];
  return [from && [from.out, 7], to && [to.into, 7]].filter(Boolean);
}

// Through the middles of the critical stretches, from lane to lane where one waits for another: a task for
// a message, or a message for the link that another one has.
function chain(plan, x, found) {
  const parts = plan.path.map(({ stretch }) => plan.timeline[stretch]);
  const points = parts.flatMap((part, k) => {
    if (part.peer === undefined) {
      const row = found.rows[part.device], y = row && row.compute + 8;
      if (!row) return [];
      return [[x(part.start_s), y], [x(part.end_s), y]];
    }
    const between = messageLanes(found, part).map(([y, height]) => y + height / 2);
    if (!between.length) return [];
    const [out, into] = [between[0], between[between.length - 1]], [before, after] = [parts[k - 1], parts[k + 1]];
    const queued = before && before.peer === part.peer && before.device !== part.device;
    const follows = after && after.peer !== undefined;
    return [[x(part.link_s[0]), queued ? into : out],
      follows ? [x(part.link_s[1]), after.device === part.device ? out : into] : [x(part.end_s), into]];
  });
  return points.length ? "M" + points.map(point => point.map(v => v.toFixed(1)).join(" ")).join("L") : "M0 0";
}
function legend() {
  const parts = [[swatch(colour(0)), "computing; a message has its sender's colour"],
    [swatch("url(#wait-0)"), "waiting, in the colour of whom for"], [swatch("none", { class: "critical" }), "critical path"],
    [swatch("none", { class: "own" }), "the chosen step"]];
  if (PLANS.some(plan => plan.totals.bound_s !== null)) parts.push([draw("svg", { width: 16, height: 12 },
    draw("line", { class: "bound", x1: 8, x2: 8, y1: 0, y2: 12 })), "bound"]);
  if (PLANS.some(plan => plan.measured)) parts.push([swatch(colour(0), { "fill-opacity": .45 }), "measured padding"],
    [swatch("var(--soft)"), "measured sending and putting together"]);
  byId("legend").append(...parts.map(([picture, text]) => make("span", {}, picture, text)));
}

// -- devices and the critical path ------------------------------------------------------------

function devices() {
  for (const [p, plan] of PLANS.entries()) {
    const latency = plan.totals.latency_s;
    state.views[p].doing = plan.devices.map(() => make("td", { class: "words doing" }));
    const rows = plan.devices.map((device, i) => [
      make("td", {}, swatch(paint(i)), `${i}: ${device.name}`), state.views[p].doing[i],
      `${seconds(device.busy_s)} (${share(latency ? device.busy_s / latency : 0)})`, seconds(device.waiting_s),
      seconds(device.critical_s), carriedCell(plan, device.sent_bytes, device.up_s),
      carriedCell(plan, device.received_bytes, device.down_s), memoryCell(device)]);
    const head = ["device", "at the cursor", "busy", "waiting", "on the critical path", "sent (link busy)",
      "received (link busy)", "memory / limit"];
    if (plan.medium_s !== null) {
      for (const k of [5, 6]) head[k] = head[k].split(" ")[0];
      rows.push(mediumRow(plan));
    }
    byId("devices").append(make("div", { class: "scroll", tabindex: 0 }, table(head, rows, plan.name)));
  }
}
function carriedCell(plan, count, busy) {
  return bytes(count) + (busy && plan.totals.latency_s ? ` (${share(busy / plan.totals.latency_s)})` : "");
}
function mediumRow(plan) {
  const latency = plan.totals.latency_s, exchange = plan.steps.reduce((sum, step) => sum + step.critical_exchange_s, 0);
  return [make("td", {}, "the medium"), make("td", { class: "words" }, "shared by all"),
    `${seconds(plan.medium_s)} (${share(latency ? plan.medium_s / latency : 0)})`, "–", seconds(exchange),
    bytes(plan.totals.bytes), bytes(plan.totals.bytes), "–"];
}
function memoryCell(device) {
  const limit = device.memory_limit_bytes, over = limit !== null && device.memory_bytes > limit;
  return make("td", { class: over ? "full" : null }, `${bytes(device.memory_bytes)} / ` +
    (limit === null ? "no limit" : `${bytes(limit)} (${share(device.memory_bytes / limit)})`));
}
// A line for each device that waits; of many the rest is folded away, the longest first.
function waitLists(plan) {
  const waiting = plan.devices.map((device, i) => [device, waitsOf(plan, i)]).filter(([, text]) => text);
  if (crowded(plan)) waiting.sort((a, b) => b[0].waiting_s - a[0].waiting_s);
  const list = some => make("ul", {}, ...some.map(([device, text]) =>
    make("li", {}, `${device.name} waits ${seconds(device.waiting_s)}: ${text}`)));
  if (!crowded(plan) || waiting.length <= MOST_NAMED) return [list(waiting)];
  return [list(waiting.slice(0, MOST_NAMED)), make("details", {},
    make("summary", {}, `${waiting.length - MOST_NAMED} more devices wait, but less`), list(waiting.slice(MOST_NAMED)))];
}
function paths() {
  for (const plan of PLANS) {
    const waits = [...plan.waits].sort((a, b) => (b.end_s - b.start_s) - (a.end_s - a.start_s)).slice(0, 8);
    byId("path").append(make("div", {}, make("h3", {}, plan.name),
      ...waitLists(plan),
      make("h3", {}, "Longest waits"), make("ul", {}, ...waits.map(wait => make("li", {}, waitText(plan, wait)))),
      waits.length ? null : make("p", { class: "note" }, "No device waits."),
      make("details", {}, make("summary", {}, `The critical path: ${plan.path.length} stretches`),
        make("ol", {}, ...plan.path.map(({ stretch, added_s }) => make("li", {},
          `${stretchText(plan, { ...plan.timeline[stretch], critical: false })}; adds ${seconds(added_s)}`))))));
  }
}

// -- time -------------------------------------------------------------------------------------

const covers = (part, time) => part.start_s <= time && time < part.end_s;

// `keep`: the plan whose chosen step stays as it is.
function setTime(time, keep, still) {
  state.time = Math.min(D.end_s, Math.max(0, time));
  byId("time").value = Math.round(1000 * state.time / (D.end_s || 1));
  byId("time").setAttribute("aria-valuetext", seconds(state.time));
  byId("now").textContent = seconds(state.time);
  if (still) stop();
  PLANS.forEach((plan, p) => {
    const at = stepAt(plan, state.time);
    [...state.views[p].row.children].forEach((button, k) => button.classList.toggle("at", k === at));
    if (p !== keep && byId("follow").checked && at !== null && at !== state.views[p].step) choose(p, at, false);
    showNow(p);
  });
  byId("saying").replaceChildren(...PLANS.map(plan => make("p", { class: "note" }, saying(plan))));
}
// The step of the critical stretch at this time.
function stepAt(plan, time) {
  const found = plan.path.map(({ stretch }) => plan.timeline[stretch]).filter(part => covers(part, time)).pop();
  return found ? found.step : null;
}
function doing(plan, device, time) {
  const task = plan.timeline.find(part => part.peer === undefined && part.device === device && covers(part, time));
  if (task) return `computes ${stepText(plan, task.step)}`;
  const wait = plan.waits.find(part => part.device === device && covers(part, time));
  if (wait) return "waits" + (wait.peer === null ? "" : ` for ${nameOf(plan, wait.peer)}`) + ` (step ${wait.step})`;
  const left = plan.timeline.filter(part => part.device === device);
  if (!left.length) return "not used";
  return left.some(part => part.start_s > time) ? "hands over messages" : "done";
}
function saying(plan) {
  const path = plan.path.map(({ stretch }) => plan.timeline[stretch]).filter(part => covers(part, state.time)).pop();
  const sent = plan.timeline.filter(part => part.peer !== undefined && covers(part, state.time)).length;
  const on = path ? stretchText(plan, { ...path, critical: false }) : "the result is there";
  return `${PLANS.length > 1 ? plan.name + ": " : ""}at ${seconds(state.time)}, critical: ${on}. ` +
    `${sent} ${sent === 1 ? "message is" : "messages are"} on the way or in line.`;
}
function showNow(p) {
  const plan = PLANS[p], view = state.views[p], time = state.time;
  if (view.cursor) for (const end of ["x1", "x2"]) view.cursor.setAttribute(end, view.x(time));
  if (view.doing) view.doing.forEach((cell, i) => { cell.textContent = doing(plan, i, time); });
  const busy = new Set(plan.timeline.filter(part => part.peer === undefined && part.step === view.step &&
    covers(part, time)).map(part => part.device));
  for (const [rect, device] of view.tiles) rect.classList.toggle("busy", busy.has(device));
  for (const { move, path, dot } of view.arrows) {
    const message = plan.timeline.find(part => part.step === view.step && part.device === move.from &&
      part.peer === move.to && covers(part, time));
    dot.setAttribute("visibility", message ? "visible" : "hidden");
    if (!message) continue;
    const [taken, left] = message.link_s, done = left > taken ? (time - taken) / (left - taken) : 1;
    const point = path.getPointAtLength(path.getTotalLength() * Math.min(1, Math.max(0, done)));
    dot.setAttribute("cx", point.x);
    dot.setAttribute("cy", point.y);
  }
}
function stop() {
  state.playing = false;
  byId("play").textContent = "Play";
}
function play() {
  if (state.playing) { stop(); return; }
  if (state.time >= D.end_s) setTime(0);
  state.playing = true;
  byId("play").textContent = "Pause";
  let before = performance.now();
  const go = () => {
    if (!state.playing) return;
    const now = performance.now(), passed = (now - before) / 1e3 * +byId("speed").value;
    before = now;
    setTime(state.time + passed * D.end_s / SECONDS_OF_PLAYING);
    if (state.time >= D.end_s) stop();
    else setTimeout(go, FRAME_MS);
  };
  setTimeout(go, FRAME_MS);
}

// -- all of it --------------------------------------------------------------------------------

function zoom(factor) {
  state.zoom = Math.min(64, Math.max(1, state.zoom * factor));
  timelines();
}
function widthChanged() {
  if (document.body.clientWidth === state.width) return;
  state.width = document.body.clientWidth;
  maps();
  timelines();
}
byId("few-label").hidden = !PLANS.some(crowded);
patterns();
totals();
steps();
devices();
paths();
legend();
widthChanged();
setTime(0);
byId("play").addEventListener("click", play);
byId("time").addEventListener("input", () => { stop(); setTime(+byId("time").value / 1000 * D.end_s); });
byId("narrower").addEventListener("click", () => zoom(.5));
byId("wider").addEventListener("click", () => zoom(2));
for (const id of ["halos", "arrows", "repeated"]) byId(id).addEventListener("change", maps);
byId("few").addEventListener("change", timelines);
addEventListener("resize", widthChanged);
for (const [event, paper] of [["beforeprint", true], ["afterprint", false]])
  addEventListener(event, () => { Object.assign(state, { paper, zoom: 1, width: 0 }); widthChanged(); });
document.addEventListener("keydown", event => {
  if (event.target !== document.body) return;
  if (event.key === " ") { event.preventDefault(); play(); }
  else keyOnSteps(event, 0);
});
