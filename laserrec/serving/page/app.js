// Ties the page together: which view is shown, which models answer, the key.

import * as api from "./api.js";
import { byId, make, say } from "./dom.js";
import { historyPanel } from "./history.js";
import { lists } from "./lists.js";
import { mapView } from "./map.js";
import { newItemPanel } from "./newitem.js";
import * as status from "./status.js";

let chosen = []; // what is shown, one or two of { model, prefix, name }
let recommended = [];

const shown = lists({
  sides: () => chosen,
  add: (item) => panel.add(item),
  onAnswer: (answers) => {
    recommended = answers[0].items;
    fresh.offer(recommended);
    map.follow();
  },
});
const panel = historyPanel((request, about) => shown.show(request, about).catch(refused));
const fresh = newItemPanel({ present: () => ({ ...panel.request(), model: chosen[0].model }), changed: () => panel.again(), load: panel.load });
const map = mapView({ model: () => chosen[0].model, history: panel.items, recommended: () => recommended, load: panel.load, refused });

async function begin() {
  try {
    const [ready, models] = await Promise.all([api.readiness(), api.models()]);
    if (!byId("key-panel").hidden) {
      byId("key-panel").hidden = true;
      byId("history-heading").focus();
    }
    byId("forget-key").hidden = !api.heldKey();
    tellReady(ready);
    chooseModels(models.map((model) => model.name));
    if (!ready.ready) setTimeout(begin, 1000);
    else await first();
  } catch (problem) {
    if (problem.status === 401) return refused(problem);
    tellReady(null, problem.message);
    byId("list-error").replaceChildren(problem.message, " ", make("button", { type: "button", on: { click: begin } }, "Try again"));
  }
}

async function first() {
  byId("list-error").replaceChildren();
  const user = /[#&]user=(.+)$/.exec(location.hash)?.[1];
  if (user) await panel.load(decodeURIComponent(user));
  else panel.again();
  view();
}

function tellReady(ready, problem) {
  byId("ready").className = `ready ${ready?.ready ? "yes" : "no"}`;
  byId("ready-words").textContent = problem ? "Unreachable" : ready.ready ? "Ready" : `Starting: ${ready.missing.join(", ")}`;
}

function refused(problem) {
  byId("key-panel").hidden = false;
  byId("key-error").textContent = api.heldKey() ? `This key is not valid. ${problem.message}` : "";
  byId("key").focus();
  tellReady({ ready: false, missing: ["a key"] });
  byId("ready-words").textContent = "Locked";
}

function chooseModels(names) {
  const sides = names.flatMap((model) => [true, false].map((prefix) => ({ model, prefix, name: prefix ? model : `${model} without collaborative prefix` })));
  chosen = sides.filter(({ prefix }) => prefix).slice(0, 2);
  const row = byId("choose-models");
  const select = (label, options, value, pick) => {
    const field = make("select", { on: { change: () => pick(field.value) } }, ...options.map((name) => make("option", { value: name, selected: name === value }, name || "none")));
    return make("label", {}, label, field);
  };
  const change = (first, second) => {
    chosen = [...new Set([first, second])].map((name) => sides.find((side) => side.name === name)).filter(Boolean);
    panel.again();
  };
  const all = sides.map(({ name }) => name);
  row.replaceChildren(
    select("Model", all, chosen[0].name, (name) => change(name, chosen[1]?.name)),
    select("beside", ["", ...all], chosen[1]?.name, (name) => change(chosen[0].name, name)));
}

const VIEWS = { try: "list-heading", map: "map-heading", status: "figures-heading" };

function view() {
  const now = /^#(map|status)/.exec(location.hash)?.[1] ?? "try";
  for (const name of Object.keys(VIEWS)) {
    byId(`${name}-view`).hidden = name !== now;
    byId(`to-${name}`)[name === now ? "setAttribute" : "removeAttribute"]("aria-current", "page");
  }
  if (now === "map" && chosen.length) map.show();
  if (now === "status") status.start({ tellReady, refused });
  else status.stop();
  return now;
}

addEventListener("hashchange", () => byId(VIEWS[view()]).focus());
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.holdKey(byId("key").value.trim());
  byId("key").value = "";
  begin();
});
byId("forget-key").addEventListener("click", () => {
  api.holdKey("");
  say("The key is forgotten.");
  location.reload();
});
view();
begin();
