// A new item from its text alone: added, ranked for the present history, and taken out again.

import * as api from "./api.js";
import { byId, count, make, plain, randomId, say, titled } from "./dom.js";
import { explain } from "./why.js";

const LOOKED_AT = 200; // first items of the list among which its rank is looked for: the longest list the service gives by default
const USERS = 12; // latest users among whom those are looked for who would get it
const THEIRS = 100; // first items of each one's list
const FIELDS = 4; // attributes of the catalogue that the form offers

/** Build the panel; `present` returns the history to rank for, `changed` is called when the catalogue has changed, `load` with a user to look at. */
export function newItemPanel({ present, changed, load }) {
  let fields = [];

  /** Offer the attributes that the catalogue's items have. */
  function offer(items) {
    if (fields.length) return;
    fields = [...new Set(items.flatMap((item) => Object.keys(item.attributes)))].filter((name) => name !== "title").slice(0, FIELDS);
    byId("new-attributes").replaceChildren(...fields.map((name, place) =>
      make("div", { className: "field" }, make("label", { for: `new-attribute-${place}` }, name.replaceAll("_", " ")), make("input", { id: `new-attribute-${place}`, maxLength: 2000, autocomplete: "off" }))));
  }

  async function add(event) {
    event.preventDefault();
    const typed = byId("new-id").value.trim();
    const id = typed || `new-${randomId()}`;
    const attributes = { title: byId("new-title").value.trim() };
    fields.forEach((name, place) => {
      const value = byId(`new-attribute-${place}`).value.trim();
      if (value) attributes[name] = value;
    });
    byId("new-add").disabled = true;
    byId("new-error").textContent = "";
    try {
      if (typed && (await api.item(id))) throw new api.Problem(`The id ${id} is in use; choose another.`);
      await api.putItem(id, attributes);
      byId("new-title").value = byId("new-id").value = "";
      await rank({ item_id: id, title: attributes.title });
      changed();
    } catch (problem) {
      byId("new-error").textContent = problem.message;
    } finally {
      byId("new-add").disabled = false;
    }
  }

  async function rank(item) {
    const request = present();
    const [{ items }] = request.items.length ? await api.recommend([{ ...request, k: LOOKED_AT }]) : [{ items: [] }];
    const place = items.findIndex((one) => one.item_id === item.item_id);
    const words = !request.items.length ? " is live. It ranks nowhere yet, since there is no history above."
      : place < 0 ? ` is live, and not among the first ${items.length} for this history.`
      : ` is live, and number ${place + 1} of the first ${items.length} for this history, with a score of ${plain(items[place].score)}.`;
    const why = make("div", { className: "why", hidden: true });
    const ask = make("button", { type: "button", "aria-expanded": "false", on: { click: () => {
      why.hidden = !why.hidden;
      ask.setAttribute("aria-expanded", String(!why.hidden));
      if (!why.hidden) explain(why, request, item);
    } } }, "Why");
    const out = make("button", { type: "button", on: { click: () => takeOut(item) } }, "Take it out again");
    byId("new-result").replaceChildren(
      make("p", {}, titled(item.title), words),
      place < 0 ? "" : neighbours(items, place),
      make("div", { className: "field-row" }, request.items.length ? ask : null, out), why, make("div", { id: "new-users" }));
    say(`${item.title}${words}`);
    byId("new-result").focus();
    await forWhom(item, request.model);
  }

  /** Show which of the latest users would get the item, and where in their lists. */
  async function forWhom(item, model) {
    const panel = byId("new-users");
    panel.replaceChildren(make("p", { className: "hint" }, "Asking for whom it ranks…"));
    try {
      const users = await api.searchUsers("", undefined, USERS);
      const answers = users.length ? await api.recommend(users.map((user_id) => ({ user_id, model, k: THEIRS }))) : [];
      const ranks = answers.map(({ items }, place) => ({ user: users[place], rank: items.findIndex((one) => one.item_id === item.item_id) }));
      const getting = ranks.filter(({ rank }) => rank >= 0).sort((one, other) => one.rank - other.rank);
      const words = !users.length ? "Nobody has events yet, so there is no user to rank it for."
        : `For whom: it is among the first ${THEIRS} of ${getting.length} of the ${count(users.length, "latest user")}.`;
      panel.replaceChildren(make("p", {}, words), make("ul", { className: "plain" }, ...getting.map(({ user, rank }) =>
        make("li", {}, make("button", { type: "button", className: "quiet text", on: { click: () => load(user) } }, "User ", titled(user)), make("span", { className: "number" }, `number ${rank + 1}`)))));
    } catch (problem) {
      panel.replaceChildren(make("p", { className: "error", role: "alert" }, `For whom it ranks is not known. ${problem.message}`));
    }
  }

  async function takeOut(item) {
    try {
      await api.deleteItem(item.item_id);
      byId("new-result").replaceChildren(make("p", {}, titled(item.title), " is out of the catalogue again."));
      say(`${item.title} is out of the catalogue again.`);
      byId("new-result").focus();
      changed();
    } catch (problem) {
      byId("new-error").textContent = problem.message;
    }
  }

  byId("new-form").addEventListener("submit", add);
  return { offer };
}

function neighbours(items, place) {
  const first = Math.max(place - 2, 0);
  const rows = items.slice(first, place + 3).map((item, step) =>
    make("li", { value: first + step + 1, className: first + step === place ? "here" : "" }, titled(item.title)));
  return make("ol", { className: "neighbours", "aria-label": "Its neighbours in the list" }, ...rows);
}
