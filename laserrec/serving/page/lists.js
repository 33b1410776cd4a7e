// The lists of recommendations, one a model or setting: what rose, fell, came and went, and why each item is there.

import { recommend } from "./api.js";
import { byId, count, make, say, titled, unseen } from "./dom.js";
import { explain } from "./why.js";

export const LENGTH = 10;
const SLOW = 300; // milliseconds until the page says that it asks
const ATTRIBUTES = 3; // of a card
const REASONS = { new_item: "new item", popular: "popular" };

/**
 * The lists after the present history.
 *
 * @param about.sides () => what to show, one or two of { model, prefix, name }: a model, and whether its prefix knows the history
 * @param about.add called with an item that is to join the history
 * @param about.onAnswer called with the answers
 */
export function lists({ sides, add, onAnswer }) {
  const root = byId("columns");
  const before = new Map(); // what marks are relative to, by model
  const opened = new Set(); // cards whose why is open, as model and id
  let asking = null;
  let request = null;
  root.replaceChildren(placeholder());

  /** Ask for the history's lists; `anew` makes the answer what later ones are compared with, and so does every one unless `stored`. */
  async function show(next, { anew, stored }) {
    request = next;
    asking?.abort();
    const own = (asking = new AbortController());
    const slow = setTimeout(() => {
      byId("asking").textContent = "Asking…";
      say("Asking.");
    }, SLOW);
    root.setAttribute("aria-busy", "true");
    byId("list-error").replaceChildren();
    const asked = sides();
    try {
      const answers = await recommend(asked.map(({ model, prefix }) => ({ ...next, model, collaborative_prefix: prefix, k: LENGTH })), own.signal);
      if (own.signal.aborted) return;
      if (anew) before.clear();
      draw(asked, answers, stored);
      asked.forEach(({ name }, place) => {
        if (anew || !stored || !before.has(name)) before.set(name, answers[place].items);
      });
      onAnswer(answers);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (problem.status === 401) throw problem;
      const again = make("button", { type: "button", on: { click: () => show(next, { anew, stored }) } }, "Try again");
      byId("list-error").replaceChildren(problem.message, ...(problem.canRetry ? [" ", again] : []));
    } finally {
      clearTimeout(slow);
      if (asking === own) {
        byId("asking").textContent = "";
        root.removeAttribute("aria-busy");
      }
    }
  }

  function draw(asked, answers, stored) {
    const focused = focusedPlace();
    const shared = answers.length === 2 ? common(answers) : null; // ranks in both lists, by id
    const told = [];
    const columns = answers.map((answer, place) => {
      const side = asked[place];
      const change = compare(before.get(side.name), answer.items);
      told.push(change.words);
      const cards = answer.items.map((item, rank) => card(side, place, item, rank, change.marks.get(item.item_id), shared?.get(item.item_id)?.[1 - place]));
      const name = make("h3", {}, side.name, make("span", { className: "hint" }, ` ${answer.model.version}`));
      return make("div", { className: "column" },
        answers.length > 1 ? name : null,
        make("ol", { className: "cards", "aria-label": `Recommendations of ${side.name}` }, ...cards),
        cards.length ? null : make("p", { className: "hint" }, "No item is left to recommend."),
        gone(change.gone));
    });
    root.classList.toggle("two", columns.length > 1);
    root.replaceChildren(...columns);
    const popular = answers[0].items.some((item) => item.reason === "popular");
    const overlap = shared ? ` ${shared.size} of ${answers[0].items.length} are in both lists.` : "";
    const against = told[0] ? `${told[0]}, ${stored ? "against the stored history" : "against the list before your last edit"}.` : "";
    byId("list-note").textContent = popular ? "This is what is popular, since there is no usable history." : `${against}${overlap}` || "Marks show what changes as you edit the history.";
    say(`${count(answers[0].items.length, "recommendation")}. ${byId("list-note").textContent}`);
    restore(focused);
  }

  function card(side, place, item, rank, mark, beside) {
    const key = `${side.name}\n${item.item_id}`;
    const why = make("div", { className: "why", id: `why-${place}-${rank}`, hidden: true });
    const details = Object.entries(item.attributes).filter(([name]) => name !== "title").slice(0, ATTRIBUTES);
    const ask = make("button", { type: "button", className: "quiet", "aria-expanded": "false", "aria-controls": why.id, "aria-label": `Why ${item.title}` }, "Why");
    const plus = make("button", { type: "button", className: "quiet plus", "aria-label": `Add ${item.title} to the history` }, "+");
    const toggle = (open) => {
      why.hidden = !open;
      ask.setAttribute("aria-expanded", String(open));
      opened[open ? "add" : "delete"](key);
      if (open) explain(why, { ...request, model: side.model }, item, side.prefix);
    };
    ask.addEventListener("click", () => toggle(why.hidden));
    plus.addEventListener("click", () => add(item));
    if (opened.has(key)) toggle(true);
    return make("li", { className: mark ? `card ${mark.kind}` : "card" },
      make("div", { className: "line" },
        make("span", { className: "rank", "aria-hidden": "true" }, String(rank + 1)),
        make("span", { className: "mark" }, ...(mark ? [make("span", { "aria-hidden": "true" }, mark.sign), unseen(mark.words)] : [])),
        make("div", { className: "what" },
          titled(item.title),
          make("p", { className: "meta" },
            REASONS[item.reason] ? make("span", { className: `tag ${item.reason}` }, REASONS[item.reason]) : null,
            beside === undefined ? null : make("span", { className: "tag both" }, "in both"),
            beside === undefined || beside === rank ? null : make("span", {}, `number ${beside + 1} there`),
            ...details.map(([name, value]) => make("span", { className: "attribute", title: name }, make("bdi", {}, value))),
            item.title === item.item_id ? null : make("span", { className: "id" }, "id ", make("bdi", {}, item.item_id)))),
        ask, plus),
      why);
  }

  // The list is drawn anew; whoever stood on a button of it stays at that place.
  function focusedPlace() {
    return root.contains(document.activeElement) ? [...root.querySelectorAll("button")].indexOf(document.activeElement) : null;
  }

  function restore(place) {
    if (place === null) return;
    const buttons = root.querySelectorAll("button");
    (buttons[Math.min(place, buttons.length - 1)] ?? byId("list-heading")).focus({ preventScroll: true });
  }

  return { show };
}

/** Say how a list differs from the one before: a mark an item, and what went. Popular items are no list to compare with. */
function compare(before, now) {
  const marks = new Map();
  if (!before?.length || before[0].reason === "popular") return { marks, gone: [], words: "" };
  const ranks = new Map(before.map((item, rank) => [item.item_id, rank]));
  const counts = { rose: 0, fell: 0, came: 0 };
  now.forEach((item, rank) => {
    const old = ranks.get(item.item_id);
    const kind = old === undefined ? "came" : old > rank ? "rose" : old < rank ? "fell" : null;
    if (!kind) return;
    counts[kind] += 1;
    const by = Math.abs((old ?? 0) - rank);
    marks.set(item.item_id, { kind, ...{
      came: { sign: "came", words: "came into the list" },
      rose: { sign: `▲${by}`, words: `rose by ${by}` },
      fell: { sign: `▼${by}`, words: `fell by ${by}` },
    }[kind] });
  });
  const present = new Set(now.map((item) => item.item_id));
  const gone = before.map((item, rank) => ({ ...item, rank })).filter((item) => !present.has(item.item_id));
  const said = [...Object.entries(counts), ["went", gone.length]].filter(([, number]) => number).map(([kind, number]) => `${number} ${kind}`);
  return { marks, gone, words: said.length ? said.join(", ") : "Nothing changed" };
}

function gone(items) {
  if (!items.length) return null;
  const rows = items.map((item) => make("li", {}, titled(item.title), make("span", { className: "hint" }, ` was number ${item.rank + 1}`)));
  return make("div", { className: "gone" }, make("h4", {}, "Went out of the list"), make("ul", {}, ...rows));
}

function common([one, other]) {
  const ranks = new Map(one.items.map((item, rank) => [item.item_id, rank]));
  return new Map(other.items.map((item, rank) => [item.item_id, [ranks.get(item.item_id), rank]]).filter(([, [first]]) => first !== undefined));
}

function placeholder() {
  const rows = Array.from({ length: LENGTH }, () => make("li", { className: "card empty" }));
  return make("div", { className: "column" }, make("ol", { className: "cards", "aria-hidden": "true" }, ...rows));
}
