// The score trend: one mark a part, round for good, a diamond for a defect, a cross at the foot for no verdict.
const NS = "http://www.w3.org/2000/svg";
const LEFT = 34, RIGHT = 8, TOP = 10, FOOT = 22;

export function svg(name, attributes = {}, text = null) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

export function drawTrend(chart, points, isLog) {
  const width = chart.clientWidth || 320, height = chart.clientHeight || 150;
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const scored = points.filter((p) => p.ratio !== null);
  const scale = isLog ? Math.log2 : (v) => v;
  const values = scored.map((p) => scale(Math.max(p.ratio, 1 / 64)));
  const low = Math.min(isLog ? -1 : 0, ...values), high = Math.max(isLog ? 1 : 2, ...values);
  const y = (v) => TOP + (1 - (v - low) / (high - low)) * (height - TOP - FOOT);
  const x = (i) => LEFT + ((i + 0.5) / Math.max(points.length, 60)) * (width - LEFT - RIGHT);
  const parts = [];
  for (const tick of ticks(low, high, isLog)) {
    const at = y(scale(tick));
    parts.push(svg("line", { class: tick === 1 ? "limit" : "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    if (tick !== 1) parts.push(svg("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, label(tick)));
  }
  parts.push(svg("text", { class: "limit-text", x: LEFT - 6, y: y(scale(1)) + 4, "text-anchor": "end" }, "1"));
  points.forEach((p, i) => parts.push(mark(p, x(i), p.ratio === null ? height - FOOT : y(scale(Math.max(p.ratio, 1 / 64))))));
  parts.push(svg("text", { x: LEFT, y: height - 2 }, "score ÷ threshold, dashed: threshold"));
  chart.replaceChildren(...parts);
  chart.setAttribute("aria-label", inWords(points, scored));
}

function ticks(low, high, isLog) {
  if (!isLog) {
    const step = high > 8 ? 4 : high > 3 ? 2 : 1;
    return [...Array(Math.floor(high / step) + 1).keys()].map((n) => n * step).concat(step > 1 ? [1] : []);
  }
  const step = high - low > 5 ? 2 : 1, from = Math.ceil(low);
  const all = [...Array(Math.floor(high) - from + 1).keys()].map((n) => n + from);
  return all.filter((n) => n % step === 0).map((n) => 2 ** n);
}

const label = (v) => (v >= 1 ? String(v) : v >= 0.1 ? v.toFixed(2).replace(/0$/, "") : v.toPrecision(1));

function mark(p, x, y) {
  if (p.verdict === "good") return svg("circle", { class: "good", cx: x, cy: y, r: 2.6 });
  if (p.verdict === "defect") return svg("path", { class: "defect", d: `M${x} ${y - 5}l5 5-5 5-5-5z` });
  return svg("path", { class: "none", d: `M${x - 3} ${y - 6}l6 6m0-6l-6 6` });
}

function inWords(points, scored) {
  if (!points.length) return "No scores yet";
  const over = points.filter((p) => p.verdict === "defect").length;
  const last = scored.length ? `; the last is ${scored.at(-1).ratio.toFixed(2)}` : "";
  return `Score over threshold of the last ${points.length} parts, ${over} of them defects${last}; 1 is the threshold`;
}
