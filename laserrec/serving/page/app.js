// Ties the page together: which view is shown, which models answer, the key.

import * as api from "./api.js";
import { byId, make, say } from "./dom.js";
import { historyPanel } from "./history.js";
import { lists } from "./lists.js";
import { newItemPanel } from "./newitem.js";
import * as status from "./status.js";

let chosen = []; // names of the models that are shown, one or two

const shown = lists({
  names: () => chosen,
  add: (item) => panel.add(item),
  onAnswer: (answers) => fresh.offer(answers[0].items),
});
const panel = historyPanel((request, about) => shown.show(request, about).catch(refused));
const fresh = newItemPanel({ present: () => ({ ...panel.request(), model: chosen[0] }), changed: () => panel.again() });

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
  const user = /^#user=(.+)$/.exec(location.hash)?.[1];
  if (user) await panel.load(decodeURIComponent(user));
  else if (location.hash === "#status") view();
  if (!user) panel.again();
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
  chosen = names.slice(0, 2);
  const row = byId("choose-models");
  row.hidden = names.length < 2;
  if (row.hidden) return;
  const select = (label, options, value, pick) => {
    const field = make("select", { on: { change: () => pick(field.value) } }, ...options.map((name) => make("option", { value: name, selected: name === value }, name || "none")));
    return make("label", {}, label, field);
  };
  const change = (next) => {
    chosen = [...new Set(next.filter(Boolean))];
    panel.again();
  };
  row.replaceChildren(
    select("Model", names, chosen[0], (name) => change([name, chosen[1]])),
    select("beside", ["", ...names], chosen[1], (name) => change([chosen[0], name])));
}

function view() {
  const isStatus = location.hash === "#status";
  byId("status-view").hidden = !isStatus;
  byId("try-view").hidden = isStatus;
  byId("to-status")[isStatus ? "setAttribute" : "removeAttribute"]("aria-current", "page");
  byId("to-try")[isStatus ? "removeAttribute" : "setAttribute"]("aria-current", "page");
  if (isStatus) status.start({ tellReady, refused });
  else status.stop();
}

addEventListener("hashchange", () => {
  view();
  byId(location.hash === "#status" ? "figures-heading" : "list-heading").focus?.();
});
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
