// The last rejects, their evidence, and how some of them become a class.
import { ask, clock } from "./station.js";

const $ = (id) => document.getElementById(id);
const EVIDENCE = [["heatmap", "Heat-map"], ["frame", "Frame"], ["crop", "Region"], ["record", "Record"]];

export function startRejects() {
  let seen = -1, undo = null, canEnrol = false, records = [], opened = null, shown = "heatmap", draft = null, isFetching = false;
  const picked = new Set();

  const say = (text, isBad = false) => {
    if ($("said").textContent !== text) $("said").textContent = text;
    $("said").classList.toggle("bad", isBad);
  };

  function update(state) {
    canEnrol = state.can_enrol;
    undo = state.undo;
    $("enrol").hidden = !canEnrol;
    $("undo").hidden = !undo;
    const text = `Undo ${undo}`;
    if ($("undo").textContent !== text) $("undo").textContent = text;
    if (state.rejects === seen || isFetching) return;
    isFetching = true;
    const due = state.rejects;
    ask("/api/rejects").then((answer) => {
      if (seen === -1 && canEnrol) showNames();
      seen = due;
      records = answer.rejects;
      showGallery();
    }).catch(() => {}).finally(() => setTimeout(() => { isFetching = false; }, 400));
  }

  function showGallery() {
    $("no-rejects").hidden = records.length > 0;
    const kept = new Map([...$("gallery").children].map((item) => [item.dataset.id, item]));
    for (const id of picked) if (!records.some((r) => r.result_id === id)) picked.delete(id);
    const items = records.map((record) => kept.get(record.result_id) || itemOf(record));
    const wanted = new Set(items);
    for (const item of kept.values()) if (!wanted.has(item)) item.remove();
    items.forEach((item, place) => { if ($("gallery").children[place] !== item) $("gallery").insertBefore(item, $("gallery").children[place] || null); });
    showPicked();
  }

  function itemOf(record) {
    const id = record.result_id, name = record.defect_class || "not named", time = clock(record.captured_at);
    const item = document.createElement("li"), open = document.createElement("button"), picture = document.createElement("img");
    item.dataset.id = id;
    picture.src = `/api/rejects/${id}/crop.jpg`;
    picture.alt = `The odd region: ${name}`;
    picture.loading = "lazy";
    const words = document.createElement("span"), bold = document.createElement("b"), more = document.createElement("span");
    words.className = "words-of";
    bold.textContent = name;
    more.textContent = `${time} · ${record.anomaly_score.toFixed(2)}`;
    words.append(bold, more);
    open.type = "button";
    open.append(picture, words);
    open.onclick = () => showEvidence(record);
    item.append(open);
    if (canEnrol) {
      const pick = document.createElement("label"), box = document.createElement("input");
      pick.className = "pick";
      box.type = "checkbox";
      box.setAttribute("aria-label", `Pick ${name} of ${time} for enrolment`);
      box.onchange = () => choose(id, box.checked);
      pick.append(box);
      item.append(pick);
    }
    return item;
  }

  function choose(id, isPicked) {
    isPicked ? picked.add(id) : picked.delete(id);
    showPicked();
  }

  function showPicked() {
    for (const item of $("gallery").children) {
      const box = item.querySelector("input");
      if (box) box.checked = picked.has(item.dataset.id);
    }
    $("look").disabled = picked.size === 0;
    $("look").textContent = picked.size ? `Check ${picked.size}` : "Check";
  }

  // --- evidence

  function showEvidence(record) {
    opened = record;
    const score = `score ${record.anomaly_score.toFixed(3)} > threshold ${record.image_threshold.toFixed(3)}`;
    const region = record.regions[0], fits = region?.ranking.slice(0, 3).map((c) => `${c.defect_class} ${c.relation_score.toFixed(2)}`).join(", ");
    $("evidence-heading").textContent = `Defect: ${record.defect_class || "not named"}`;
    $("evidence-facts").textContent = [record.source, clock(record.captured_at), score, fits ? `fits ${fits}` : ""].filter(Boolean).join(" · ");
    $("evidence-tabs").replaceChildren(...EVIDENCE.map(([what, words]) => tabOf(what, words)));
    const isRecord = shown === "record";
    $("evidence-picture").hidden = isRecord;
    $("evidence-record").hidden = !isRecord;
    if (isRecord) $("evidence-record").textContent = JSON.stringify(record, null, 2);
    else $("evidence-picture").src = `/api/rejects/${record.result_id}/${shown}.jpg`;
    $("evidence-picture").alt = `${EVIDENCE.find(([what]) => what === shown)[1]} of the reject`;
    const at = records.indexOf(record);
    $("newer").disabled = at <= 0;
    $("older").disabled = at < 0 || at === records.length - 1;
    $("pick-this").hidden = !canEnrol;
    $("pick-this").textContent = picked.has(record.result_id) ? "Picked for enrolment" : "Pick for enrolment";
    if (!$("evidence").open) $("evidence").showModal();
  }

  function tabOf(what, words) {
    const tab = document.createElement("button"), number = EVIDENCE.findIndex(([each]) => each === what);
    tab.type = "button";
    tab.textContent = words;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "evidence-panel");
    tab.setAttribute("aria-selected", String(what === shown));
    tab.tabIndex = what === shown ? 0 : -1;
    tab.onclick = () => turnTo(number);
    tab.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) turnTo((number + step + EVIDENCE.length) % EVIDENCE.length);
    };
    return tab;
  }

  function turnTo(number) {
    shown = EVIDENCE[number][0];
    showEvidence(opened);
    $("evidence-tabs").children[number].focus();
  }

  const leaf = (step) => {
    const next = records[records.findIndex((r) => r.result_id === opened.result_id) + step];
    if (next) showEvidence(next);
  };
  $("newer").onclick = () => leaf(-1);
  $("older").onclick = () => leaf(1);
  $("pick-this").onclick = () => {
    choose(opened.result_id, !picked.has(opened.result_id));
    showEvidence(opened);
  };
  document.querySelectorAll("[data-close]").forEach((button) => { button.onclick = () => button.closest("dialog").close(); });

  // --- enrolment

  async function showNames() {
    const { classes } = await ask("/api/enrolment");
    $("class-names").replaceChildren(...Object.entries(classes).map(([name, count]) => {
      const option = document.createElement("option");
      option.value = name;
      option.label = `${count} support${count === 1 ? "" : "s"}`;
      return option;
    }));
  }

  async function busy(button, work) {
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      say(error.message, true);
    }
    button.disabled = false;
  }

  $("enrol").onsubmit = (event) => {
    event.preventDefault();
    const name = $("class-name").value.trim();
    busy($("look"), async () => {
      say(`Comparing ${picked.size} with what is enrolled …`);
      showCheck(await ask("/api/enrolment/preview", { name, result_ids: [...picked] }));
      say("");
    }).then(showPicked);
  };

  function showCheck(said) {
    draft = said.draft_id;
    const count = said.supports.filter((s) => s.is_new).length;
    $("check-heading").textContent = `Enrol ${count} reject${count === 1 ? "" : "s"} as “${said.name}”`;
    const verdict = $("check-verdict");
    verdict.className = said.confused ? "bad" : "ok";
    verdict.textContent = inWords(said);
    $("check-rows").replaceChildren(...said.supports.map(rowOf));
    $("confirm").textContent = `Enrol as ${said.name}`;
    $("confirm").classList.toggle("main", !said.confused);
    $("check").showModal();
    (said.confused ? $("check").querySelector("[data-close]") : $("confirm")).focus();
  }

  const inWords = (said) => {
    if (said.supports.length === 1) return "One support cannot be checked against its own class; a second one makes it surer.";
    if (said.confused) return `${said.confused} of ${said.supports.length} fit another class better: look at them again.`;
    return "Leave-one-out: every support fits its own class best.";
  };

  function rowOf(support) {
    const row = document.createElement("tr");
    const other = support.nearest_other ? `${support.nearest_other} ${support.other_score.toFixed(3)}` : "–";
    const cells = [support.source, support.own_score === null ? "only support" : support.own_score.toFixed(3), other, support.is_confused ? "confused" : support.own_score === null ? "" : "fits"];
    cells.forEach((text, number) => {
      const cell = document.createElement("td");
      cell.textContent = number === 0 && support.is_new ? `new: ${text}` : text;
      if (number === 0 && support.is_new) cell.className = "new";
      if (number === 3) cell.className = support.is_confused ? "bad" : "ok";
      row.append(cell);
    });
    return row;
  }

  $("confirm").onclick = () => busy($("confirm"), async () => {
    try {
      const said = await ask("/api/enrolment/confirm", { draft_id: draft });
      say(`Enrolled: ${said.name} has ${said.classes[said.name]} supports now. It counts from the next part on.`);
      picked.clear();
      $("class-name").value = "";
      showPicked();
      await showNames();
    } finally {
      $("check").close();
    }
  });

  $("undo").onclick = () => busy($("undo"), async () => {
    const said = await ask("/api/enrolment/undo", {});
    say(`Undone: the classes are as they were before “${said.undone}” was enrolled.`);
    await showNames();
  });

  showPicked();
  return { update, say };
}
