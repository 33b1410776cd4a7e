// Why an item has its score, in levels: a sentence, the items of the history as bars, the terms and the expert.

import { recommend } from "./api.js";
import { count, make, plain, signed, titled } from "./dom.js";

const TERMS = [
  ["language_model", "Language model", "how near the item is to what it read in the history"],
  ["neighbours", "Neighbours", "how near its text is to the texts of the history"],
  ["lexical", "Shared words", "rare words that its text shares with the texts of the history"],
  ["collaborative", "Collaborative", "what the sequential recommender gives it; for a new item that of its nearest known ones"],
  ["cold_start_bonus", "Cold-start bonus", "what an item without interactions gets beyond that"],
  ["seen_penalty", "Seen", "for an item of the history"],
];
const STRONGEST = 8; // bars that are shown at once
const open = { items: true, computed: false }; // as the reader left the levels of the card before

/** Ask why one item has its score after a history, and show it in an element; `prefix` says whether it was ranked with the collaborative prefix. */
export async function explain(element, request, item, prefix = true) {
  element.setAttribute("aria-busy", "true");
  if (!element.firstChild) element.append(make("p", { className: "hint" }, "Asking why…"));
  try {
    const [answer] = await recommend([{ ...request, only: [item.item_id], k: 1, exclude_seen: false, explain: true }]);
    const found = answer.items[0];
    if (!found) throw new Error("The item is in no answer any more: it was hidden or deleted.");
    element.replaceChildren(...(found.why ? levels(found, prefix) : popular(found)));
  } catch (problem) {
    element.replaceChildren(make("p", { className: "error", role: "alert" }, problem.message));
  }
  element.removeAttribute("aria-busy");
}

function popular(item) {
  const events = item.score.toLocaleString("en");
  return [make("p", { className: "sentence" }, `It is popular (${events} events), and the history holds nothing that could be used.`)];
}

function levels({ score, why }, prefix) {
  const other = prefix || why.without_prefix === null ? null
    : `Without the collaborative prefix the score is ${plain(why.without_prefix)}, with it ${plain(score)}. What follows is about the score with it.`;
  return [
    other && make("p", {}, other),
    make("p", { className: "sentence" }, make("bdi", {}, why.sentence)),
    level("items", "Which items of the history", bars(why.moves)),
    level("computed", "How it was computed", ...computed(score, why)),
  ].filter(Boolean);
}

function level(name, summary, ...content) {
  const details = make("details", { open: open[name] }, make("summary", {}, summary), ...content);
  details.addEventListener("toggle", () => (open[name] = details.open));
  return details;
}

function bars(moves) {
  const widest = Math.max(...moves.map((move) => Math.abs(move.by)), 1e-9);
  const sorted = [...moves].sort((one, other) => Math.abs(other.by) - Math.abs(one.by));
  const rows = sorted.map((move) => {
    const bar = make("span", { className: move.by < 0 ? "bar down" : "bar up" });
    bar.style.setProperty("--part", `${(50 * Math.abs(move.by)) / widest}%`);
    return make("li", {}, titled(move.title), make("span", { className: "track", "aria-hidden": "true" }, bar), make("span", { className: "number" }, signed(move.by)));
  });
  const [first, rest] = [rows.slice(0, STRONGEST), rows.slice(STRONGEST)];
  const others = rest.length ? make("details", {}, make("summary", {}, `The other ${count(rest.length, "item")}`), make("ul", { className: "bars" }, ...rest)) : null;
  const note = "Each bar is the score, less the score after the history without that item. Bars need not add up to the score.";
  return make("div", {}, make("ul", { className: "bars" }, ...first), others, make("p", { className: "hint" }, note));
}

function computed(score, why) {
  const rows = TERMS.filter(([name]) => why.terms[name] !== null).map(([name, title, meaning]) =>
    make("tr", {}, make("th", { scope: "row" }, title, make("span", { className: "hint" }, meaning)), make("td", { className: "number" }, signed(why.terms[name]))));
  const table = make("table", { className: "terms" },
    make("tbody", {}, ...rows),
    make("tfoot", {}, make("tr", {}, make("th", { scope: "row" }, "Score"), make("td", { className: "number" }, plain(score)))));
  const found = [table];
  if (why.without_prefix !== null) {
    found.push(make("p", {}, `The collaborative prefix moves the score by ${signed(why.prefix_moves)}: without it, the score is ${plain(why.without_prefix)}.`));
  }
  if (why.expert !== null) {
    found.push(make("p", {}, `Expert ${why.expert + 1} read the history; the router gave it a probability of ${plain(why.expert_probability)}.`));
  }
  return found;
}
