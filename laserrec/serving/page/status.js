// How the service does: readiness, models with what followed from their answers, events, latency, load. All from its public routes.

import * as api from "./api.js";
import { byId, count, make } from "./dom.js";

const EVERY = 5000; // milliseconds between two looks
const QUANTILES = [0.5, 0.95, 0.99];
let timer = 0, begun = null;

/** Show the figures, and keep them up to date until `stop`; `about.tellReady` gets what /readyz says, `about.refused` a refused key. */
export async function start(about) {
  clearTimeout(timer);
  try {
    const [ready, models, text] = await Promise.all([api.readiness(), api.models(), api.metrics()]);
    about.tellReady(ready);
    draw(ready, models, read(text));
    byId("status-error").textContent = "";
  } catch (problem) {
    if (problem.status === 401) return about.refused(problem);
    about.tellReady(null, problem.message);
    byId("status-error").textContent = problem.message;
  }
  timer = setTimeout(() => start(about), EVERY);
}

export const stop = () => { clearTimeout(timer); timer = 0; begun = null; };

/** Read what Prometheus reads: a list of { name, labels, value }. */
function read(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const [, name, labels, value] = /^(\w+)(?:\{(.*)\})? ([^ ]+)$/.exec(line) ?? [];
    if (!name) continue;
    const pairs = [...(labels ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, held]) => [key, held]);
    found.push({ name, labels: Object.fromEntries(pairs), value: Number(value) });
  }
  return found;
}

const sum = (samples, name, wanted = () => true) =>
  samples.filter((one) => one.name === name && wanted(one.labels)).reduce((total, one) => total + one.value, 0);

/** Return the upper bound of the bucket that holds each quantile of a histogram, in milliseconds. */
function quantiles(samples, name, wanted) {
  const buckets = new Map();
  for (const one of samples) {
    if (one.name === `${name}_bucket` && wanted(one.labels)) {
      const bound = one.labels.le === "+Inf" ? Infinity : Number(one.labels.le) * 1000;
      buckets.set(bound, (buckets.get(bound) ?? 0) + one.value);
    }
  }
  const sorted = [...buckets].sort(([one], [other]) => one - other);
  const total = sorted.at(-1)?.[1] ?? 0;
  return { total, bounds: QUANTILES.map((part) => (total ? sorted.find(([, below]) => below >= part * total)[0] : null)) };
}

const bound = (milliseconds) => (milliseconds === null ? "–" : milliseconds === Infinity ? "over 10 s" : `≤ ${milliseconds.toLocaleString("en")} ms`);
const percent = (part) => `${(100 * part).toFixed(1)} %`;

function draw(ready, models, samples) {
  const accepted = sum(samples, "laserrec_events_total", ({ result }) => result === "accepted");
  begun ??= { accepted, at: performance.now() };
  const minutes = (performance.now() - begun.at) / 60_000;
  const bounds = Object.fromEntries(samples.filter((one) => one.name === "laserrec_bound").map((one) => [one.labels.of, one.value]));
  const of = (value, most) => `${value.toLocaleString("en")} of ${most.toLocaleString("en")}`;
  figures([
    ["Ready", ready.ready ? "yes" : `no; missing: ${ready.missing.join(", ")}`],
    ["Items", sum(samples, "laserrec_items").toLocaleString("en")],
    ["Events accepted", accepted.toLocaleString("en")],
    ["Events a minute", minutes > 0.05 ? ((accepted - begun.accepted) / minutes).toFixed(1) : "–"],
    ["Histories that wait", of(sum(samples, "laserrec_queue_requests"), bounds.queue_requests)],
    ["Kept embeddings", of(sum(samples, "laserrec_embeddings"), bounds.embeddings)],
  ]);
  byId("status-note").textContent = "Of this process since it started; events a minute since you opened this view.";
  byId("models").replaceChildren(modelTable(models));
  offline(models);
  const rows = [["Recommendations", "laserrec_request_seconds", ({ route }) => route.startsWith("/v1/recommendations")],
    ["Events", "laserrec_request_seconds", ({ route }) => route === "/v1/events"],
    ...["queue", "engine", "store"].map((phase) => [`Time in the ${phase}`, "laserrec_phase_seconds", (labels) => labels.phase === phase])];
  byId("latency").replaceChildren(table("Latency by kind of request and phase", ["", "requests", "half within", "95 % within", "99 % within"], rows.map(([title, name, wanted]) => {
    const { total, bounds } = quantiles(samples, name, wanted);
    return [title, total.toLocaleString("en"), ...bounds.map(bound)];
  })));
  byId("load").replaceChildren(...load(samples));
}

function figures(pairs) {
  const list = byId("figures");
  if (list.children.length !== pairs.length) list.replaceChildren(...pairs.map(([name]) => make("div", {}, make("dt", {}, name), make("dd", {}))));
  pairs.forEach(([, value], place) => (list.children[place].lastChild.textContent = value));
}

function modelTable(models) {
  return table("Models, and what followed from their answers", ["model", "users", "answers", "followed by an event", "rate (95 % interval)"], models.map((model) => [
    make("span", {}, model.name, make("span", { className: "hint" }, ` ${model.version}`)), percent(model.share), model.answers.toLocaleString("en"),
    model.hits.toLocaleString("en"), model.answers ? `${percent(model.rate)} (${percent(model.low)} to ${percent(model.high)})` : "–",
  ]));
}

/** Show what was measured before serving: a row for each model, split and protocol. */
function offline(models) {
  const rows = models.flatMap((model) => {
    const kinds = [...new Set(model.offline.map(({ split, protocol }) => `${split} ${protocol}`))];
    return kinds.map((kind) => {
      const own = model.offline.filter(({ split, protocol }) => `${split} ${protocol}` === kind);
      const figure = (name) => own.filter(({ metric }) => metric === name).map(({ mean, low, high }) => `${mean.toFixed(4)} (${low.toFixed(4)} to ${high.toFixed(4)})`)[0];
      return [model.name, own[0].split, own[0].protocol === "full" ? "ranked, too" : "left out", own[0].cases.toLocaleString("en"), figure("ndcg@10"), figure("recall@10")];
    });
  });
  byId("offline-note").textContent = rows.length ? "Measured on held-out events before the model was served. Compare figures only where split and seen items agree."
    : "None of the models' folders holds an evaluation; laserrec evaluate writes one into the run's folder.";
  byId("offline").replaceChildren(rows.length ? table("Offline figures of the models", ["model", "split", "seen items", "cases", "NDCG@10 (95 % interval)", "Recall@10 (95 % interval)"], rows) : "");
}

function load(samples) {
  const experts = samples.filter((one) => one.name === "laserrec_expert_histories_total").map((one) => [`Expert ${Number(one.labels.expert) + 1}`, one.value]);
  const refused = samples.filter((one) => one.name === "laserrec_refused_total").map((one) => [one.labels.cause.replaceAll("_", " "), one.value]);
  const hits = sum(samples, "laserrec_embedding_lookups_total", ({ result }) => result === "hit");
  const all = sum(samples, "laserrec_embedding_lookups_total");
  return [
    make("h3", {}, "Histories by expert"), experts.length ? shares(experts) : make("p", { className: "hint" }, "None yet, or the model has no router."),
    make("h3", {}, "Requests refused, by cause"), refused.length ? shares(refused) : make("p", { className: "hint" }, "None."),
    make("p", {}, all ? `${count(hits, "history", "histories")} of ${all.toLocaleString("en")} were read before (${percent(hits / all)}).` : "No history was read yet."),
  ];
}

function shares(pairs) {
  const total = pairs.reduce((together, [, value]) => together + value, 0);
  return make("ul", { className: "bars" }, ...pairs.sort().map(([name, value]) => {
    const bar = make("span", { className: "bar whole" });
    bar.style.setProperty("--part", `${(100 * value) / Math.max(total, 1)}%`);
    return make("li", {}, make("span", { className: "title" }, name), make("span", { className: "track", "aria-hidden": "true" }, bar), make("span", { className: "number" }, value.toLocaleString("en")));
  }));
}

/** Build a table that a phone shows as blocks; the roles keep it a table for screen readers then, too. */
function table(caption, heads, rows) {
  const row = ([first, ...rest]) => make("tr", { role: "row" }, make("th", { scope: "row", role: "rowheader" }, first),
    ...rest.map((cell, place) => make("td", { className: "number", role: "cell", "data-head": heads[place + 1] }, cell)));
  return make("div", { className: "scrolls", role: "region", tabIndex: 0, "aria-label": caption }, make("table", { role: "table" },
    make("caption", { className: "unseen" }, caption),
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads.map((head) => (head ? make("th", { scope: "col", role: "columnheader" }, head) : make("td", { role: "cell" }))))),
    make("tbody", { role: "rowgroup" }, ...rows.map(row))));
}
