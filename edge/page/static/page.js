// Shows what the station says. Every text is set as text; what is known comes from one stream of events.
import { drawTrend, svg } from "./chart.js";
import { startRejects } from "./enrol.js";
import { ask, clock } from "./station.js";

const LOST_S = 3;
const $ = (id) => document.getElementById(id);
const SHAPES = {
  good: "M32 4a28 28 0 1 0 .01 0zM19 33l9 9 18-19",
  defect: "M21 4h22l17 17v22L43 60H21L4 43V21zM22 22l20 20m0-20L22 42",
  none: "M32 6 60 56H4zM32 25v15m0 8v.5",
  paused: "M10 6h44v52H10zM25 22v20m14-20v20",
  waiting: "M32 4a28 28 0 1 0 .01 0zM32 16v17l11 8",
  contact: "M8 8l48 48M14 36a24 24 0 0 1 11-9m13 1a24 24 0 0 1 12 8M4 26a38 38 0 0 1 12-9m16-4a38 38 0 0 1 28 13M32 50v.5",
};
let state = null, heardAt = performance.now(), camera = 0, trend = [], announced = "", announcedAt = -Infinity;
let source = null, pictures = [], pictureAt = [], pictureCame = () => {}, numberShown = 0, stopLooking = new AbortController();

const rejects = startRejects();

function listen() {
  source = new EventSource("/api/events");
  source.onmessage = (event) => {
    heardAt = performance.now();
    state = JSON.parse(event.data);
    if (state.trend_is_whole) trend = [];
    if (state.trend.length || state.trend_is_whole) {
      trend = trend.concat(state.trend).slice(-2000);
      showTrend();
    }
    camera = Math.min(camera, state.cameras.length - 1);
    showState();
    rejects.update(state);
    tick();
  };
  source.addEventListener("pictures", (event) => {
    const newer = JSON.parse(event.data);
    newer.forEach((number, n) => { if (number !== pictures[n]) pictureAt[n] = performance.now(); });
    pictures = newer;
    pictureCame();
  });
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return;
    fetch("/api/state").then((answer) => answer.status === 401 && location.reload(), () => {});
    setTimeout(listen, 2000);
  };
}

// What the banner says of a camera at this moment: a kind, a word, and why.
function verdictOf(one, since) {
  if (since > LOST_S) return { kind: "contact", word: "NO CONTACT", why: `no contact for ${Math.floor(since)} s` };
  if (state.loop_age_s + since > LOST_S) {
    return { kind: "none", word: "NO VERDICT", why: `the inspection has stood still for ${Math.floor(state.loop_age_s + since)} s` };
  }
  if (state.state === "paused") return { kind: "paused", word: "PAUSED", why: `${state.reason}; nothing is inspected` };
  if (one.trouble) return { kind: "none", word: "NO VERDICT", why: one.trouble };
  if (!one.last || !one.is_current) return { kind: "waiting", word: "WAITING", why: state.triggered.includes(one.name) ? "for a trigger" : "for the next part" };
  const { verdict, defect_class, error } = one.last;
  if (verdict === "no_verdict") return { kind: "none", word: "NO VERDICT", why: error };
  const isIdle = one.age_s + since > state.stale_after_s;
  const isSporadic = state.sporadic.includes(one.name) || state.triggered.includes(one.name);
  if (isIdle && !isSporadic) {
    return { kind: "none", word: "NO VERDICT", why: `no part for ${Math.floor(one.age_s + since)} s; the last was ${verdict}` };
  }
  return { kind: verdict, word: verdict.toUpperCase(), name: verdict === "defect" ? defect_class || "" : "", why: isIdle ? "waiting for the next part" : "" };
}

function tick() {
  const since = (performance.now() - heardAt) / 1000;
  if (!state) {
    if (since > LOST_S) showVerdict({ kind: "contact", word: "NO CONTACT", why: `no contact for ${Math.floor(since)} s` }, null, since);
    return;
  }
  const one = state.cameras[camera];
  showVerdict(verdictOf(one, since), one, since);
  showTabs(since);
  $("arm").disabled = since > LOST_S || state.state !== "paused";
  $("pause").disabled = since > LOST_S || state.state === "paused";
  $("trigger").disabled = since > LOST_S;
}

function showVerdict(said, one, since) {
  document.body.dataset.kind = said.kind;
  document.body.dataset.old = said.kind === "none" && performance.now() - (pictureAt[camera] ?? 0) > LOST_S * 1000;
  setText("word", said.word);
  setText("class", said.name ? said.name : "");
  setText("why", said.why || "");
  const drawn = $("shape").dataset.kind;
  if (drawn !== said.kind) $("shape").replaceChildren(svg("path", { d: SHAPES[said.kind] }));
  $("shape").dataset.kind = said.kind;
  const judged = one && one.last && ["good", "defect"].includes(said.kind) ? one.last : null;
  setText("score", judged ? judged.anomaly_score.toFixed(2) : "–");
  setText("threshold", judged ? judged.image_threshold.toFixed(2) : "–");
  const age = one && one.last ? (one.frame_age_s ?? one.age_s) + since : null;
  setText("age", age === null ? "–" : age < 10 ? `${age.toFixed(1)} s` : age < 120 ? `${Math.floor(age)} s` : `${Math.floor(age / 60)} min`);
  announce([said.word, said.name, said.kind === "contact" ? "" : said.why].filter(Boolean).join(": ").replace(/\d+ s\b/, "some seconds"));
}

// Said aloud when it changes, and not more often than one can listen.
function announce(text) {
  if (text === announced || performance.now() - announcedAt < 2000) return;
  $("announced").textContent = announced = text;
  announcedAt = performance.now();
}

function showState() {
  setText("station", state.station || "");
  document.title = `${state.station ? `${state.station} · ` : ""}oddkind`;
  $("state").dataset.state = state.state;
  setText("state-name", state.state);
  setText("reason", state.reason || "");
  $("trigger").hidden = !state.triggered.length;
  const { good, defect, no_verdict } = state.counts, all = good + defect + no_verdict;
  for (const name of ["good", "defect", "no_verdict"]) setText(name, state.counts[name].toLocaleString("en"));
  setText("yield", state.yield_percent === null ? "–" : state.yield_percent.toFixed(1));
  [["good", good], ["defect", defect], ["none", no_verdict]].forEach(([name, count]) => {
    $(`share-${name}`).style.width = all ? `${(100 * count) / all}%` : "0";
  });
  showClasses();
  showMasterParts(state.master_parts, state.state === "paused");
  const last = state.cameras[camera].last;
  setText("origin", last ? [last.source, last.trigger?.part_id ? `part ${last.trigger.part_id}` : `frame ${last.frame_id}`, clock(last.captured_at)].join(" · ") : "");
}

// Parts whose verdict is known: put one under the camera, then say so here.
function showMasterParts(parts, isPaused) {
  const drawn = JSON.stringify([parts, isPaused]);
  if ($("masters").dataset.drawn === drawn) return;
  $("masters").dataset.drawn = drawn;
  $("masters").hidden = !parts.length;
  $("master-parts").replaceChildren(...parts.map((part) => {
    const item = document.createElement("li"), name = document.createElement("b"), how = document.createElement("span"), show = document.createElement("button");
    name.textContent = part.name;
    how.textContent = part.is_due ? `due: ${part.expected}` : `${part.expected}, ${clock(part.passed_at)}`;
    item.dataset.due = part.is_due;
    Object.assign(show, { type: "button", textContent: "Show", disabled: !isPaused, onclick: () => wish("/api/master", { name: part.name }) });
    show.setAttribute("aria-label", `Master part ${part.name} is in view`);
    item.append(name, how, show);
    return item;
  }));
}

function showClasses() {
  const rows = Object.entries(state.classes), most = Math.max(1, ...rows.map(([, count]) => count));
  if (!rows.length) return;
  $("classes").replaceChildren(...rows.slice(0, 5).map(([name, count]) => {
    const item = document.createElement("li"), word = document.createElement("b"), number = document.createElement("span"), bar = document.createElement("i");
    word.textContent = name || "not named";
    number.textContent = count.toLocaleString("en");
    bar.style.width = `${(100 * count) / most}%`;
    item.append(word, bar, number);
    return item;
  }));
}

function showTabs(since) {
  const tabs = $("cameras");
  tabs.hidden = state.cameras.length < 2;
  if (tabs.hidden) return;
  if (tabs.children.length !== state.cameras.length) tabs.replaceChildren(...state.cameras.map((one, number) => tabOf(one, number)));
  state.cameras.forEach((one, number) => {
    const tab = tabs.children[number], said = verdictOf(one, since), isShown = number === camera;
    tab.setAttribute("aria-selected", String(isShown));
    tab.tabIndex = isShown ? 0 : -1;
    if (tab.dataset.kind !== said.kind) tab.querySelector("path").setAttribute("d", SHAPES[said.kind]);
    tab.dataset.kind = said.kind;
    const text = `${one.name}: ${said.word.toLowerCase()}`;
    if (tab.lastChild.textContent !== text) tab.lastChild.textContent = text;
  });
}

function tabOf(one, number) {
  const tab = document.createElement("button"), shape = svg("svg", { class: "shape", viewBox: "0 0 64 64", "aria-hidden": "true" });
  shape.append(svg("path"));
  tab.type = "button";
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", "view");
  tab.append(shape, document.createElement("span"));
  tab.onclick = () => choose(number);
  tab.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    choose((number + step + state.cameras.length) % state.cameras.length);
    $("cameras").children[camera].focus();
  };
  return tab;
}

function choose(number) {
  camera = number;
  tick();
  showState();
  showTrend();
  lookAfresh();
}

function showTrend() {
  drawTrend($("trend"), trend.filter((p) => p.camera === camera).slice(-240), $("log").checked);
}

function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// --- the picture: fetched when there is a newer one, so that no connection waits; it says what was found in it

function lookAfresh() {
  numberShown = 0;
  stopLooking.abort();
  stopLooking = new AbortController();
  pictureCame();
}

async function watch() {
  for (;;) {
    if (document.hidden || (pictures[camera] ?? 0) === numberShown) {
      await new Promise((resolve) => { pictureCame = resolve; });
      continue;
    }
    const asked = stopLooking;
    try {
      const over = document.querySelector("[name=over]:checked").value;
      const answer = await fetch(`/api/cameras/${camera}/picture.jpg?view=${over}`, { signal: asked.signal, cache: "no-store" });
      if (answer.status === 200) await showPicture(await answer.blob(), JSON.parse(answer.headers.get("X-Oddkind-Said")), asked);
      else await sleep(1000);
    } catch (error) {
      if (!asked.signal.aborted || asked === stopLooking) await sleep(1000);
    }
  }
}

async function showPicture(blob, said, asked) {
  const before = $("picture").src, url = URL.createObjectURL(blob), next = new Image();
  next.src = url;
  await next.decode();
  if (asked.signal.aborted) return URL.revokeObjectURL(url);
  numberShown = said.number;
  $("picture").src = url;
  $("picture").hidden = false;
  $("nothing").hidden = true;
  $("picture").alt = `Live picture of ${state ? state.cameras[camera].name : "the camera"}${said.verdict ? `, ${said.verdict}${said.defect_class ? `: ${said.defect_class}` : ""}` : ""}`;
  showRegions(said);
  if (before) URL.revokeObjectURL(before);
}

function showRegions(said) {
  const [width, height] = said.size_wh, over = $("regions");
  over.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const scale = Math.max(width / over.clientWidth, height / over.clientHeight), size = 17 * scale;
  const regions = $("boxes").checked ? [...said.regions].reverse() : [];
  over.replaceChildren(...regions.map((region) => {
    const [x0, y0, x1, y1] = region.box_xyxy, group = svg("g", { class: said.verdict });
    const box = { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
    const text = region.defect_class === null ? `odd ${region.peak_score.toFixed(2)}` : `${region.defect_class} ${region.relation_score.toFixed(2)}`;
    const tagWidth = (text.length * 0.58 + 0.9) * size, tagHeight = 1.5 * size;
    const tagX = Math.max(0, Math.min(x0, width - tagWidth)), tagY = y0 >= tagHeight ? y0 - tagHeight : y0;
    group.append(svg("rect", { class: "box rim", ...box }), svg("rect", { class: "box frame", ...box }));
    group.append(svg("rect", { class: "tag", x: tagX, y: tagY, width: tagWidth, height: tagHeight }));
    group.append(svg("text", { x: tagX + 0.45 * size, y: tagY + 1.08 * size, "font-size": size }, text));
    return group;
  }));
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// --- wishes

async function wish(path, body = {}) {
  try {
    await ask(path, body);
    rejects.say("");
  } catch (error) {
    rejects.say(error.message, true);
  }
}

$("arm").onclick = () => wish("/api/arm");
$("pause").onclick = () => wish("/api/pause");
$("trigger").onclick = () => {
  const name = state.cameras[camera].name;
  wish("/api/trigger", state.triggered.includes(name) ? { camera: name } : {});
};
$("log").onchange = showTrend;
$("boxes").onchange = lookAfresh;
document.querySelectorAll("[name=over]").forEach((choice) => { choice.onchange = lookAfresh; });
new ResizeObserver(showTrend).observe($("trend"));
addEventListener("pagehide", () => { // a page that waits to be gone back to would keep its connections
  source.close();
  stopLooking.abort();
});
addEventListener("pageshow", (event) => event.persisted && location.reload());
document.addEventListener("visibilitychange", () => !document.hidden && lookAfresh());
setInterval(tick, 200);
listen();
watch();
