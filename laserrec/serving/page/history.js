// The history that recommendations follow: a user's stored one or one that is typed, edited as a preview, and saved as events.

import * as api from "./api.js";
import { itemBox, userBox } from "./boxes.js";
import { byId, count, make, randomId, say, titled } from "./dom.js";

const MOST = 50; // latest items that are edited and explained; the service explains no longer history by default

/** Build the panel; `changed` is called with what to ask, and whether the answer is the stored history's. */
export function historyPanel(changed) {
  let user = null, stored = [], older = [], disliked = [], entries = [];

  const users = userBox(byId("user-box"), load);
  const items = itemBox(byId("item-box"), "Add an item", add);

  async function load(id) {
    byId("save-error").textContent = "";
    try {
      const events = await api.history(id);
      user = id;
      const taken = events.filter((event) => event.counts_as === "interest").map(({ item_id, title }) => ({ item_id, title: title ?? item_id, known: title !== null }));
      disliked = events.filter((event) => event.counts_as === "dislike").map((event) => event.item_id);
      stored = taken.slice(-MOST);
      older = taken.slice(0, -MOST).map((item) => item.item_id);
      history.replaceState(null, "", `${location.hash.startsWith("#map") ? "#map&" : "#"}user=${encodeURIComponent(id)}`);
      return reset(events.length ? "" : `No events are kept of ${id}.`);
    } catch (problem) {
      for (const note of [byId("history-note"), byId("map-path-note")]) note.textContent = problem.message;
      say(problem.message);
    }
  }

  function clear() {
    user = null;
    stored = older = disliked = [];
    history.replaceState(null, "", "#try");
    reset();
  }

  function reset(note = "") {
    entries = stored.map((item) => ({ ...item }));
    byId("save-user").value = user ?? "";
    draw(note);
    showLatest();
    ask(true);
  }

  function add(item) {
    entries.push({ item_id: item.item_id, title: item.title, known: true, eventId: `page-${randomId()}` });
    edited(`${item.title} is added.`);
    showLatest();
  }

  function showLatest() {
    byId("history").scrollTop = byId("history").scrollHeight;
  }

  function remove(place) {
    const [gone] = entries.splice(place, 1);
    edited(`${gone.title} is removed.`);
    const buttons = byId("history").querySelectorAll("button.remove");
    (buttons[Math.min(place, buttons.length - 1)] ?? items.input).focus();
  }

  function move(place, by) {
    const [entry] = entries.splice(place, 1);
    entries.splice(place + by, 0, entry);
    edited(`${entry.title} is now number ${place + by + 1}.`);
    const row = byId("history").children[place + by];
    const wanted = row.querySelector(by < 0 ? "button.earlier" : "button.later");
    (wanted.disabled ? row.querySelector("button:enabled") : wanted).focus();
  }

  function edited(words) {
    say(words);
    draw();
    ask(false);
  }

  const added = () => entries.filter((entry) => entry.eventId);
  const isStored = () => entries.length === stored.length && entries.every((entry, place) => entry.item_id === stored[place].item_id && !entry.eventId);

  function request() {
    const without = [...new Set([...disliked, ...older])].filter((id) => !entries.some((entry) => entry.item_id === id));
    return { items: entries.slice(-MOST).map((entry) => entry.item_id), without };
  }

  const ask = (anew) => changed(request(), { anew, stored: stored.length > 0 });

  function draw(note = "") {
    byId("history-heading").replaceChildren(...(user === null ? ["History"] : ["History of ", titled(user)]));
    byId("history").replaceChildren(...entries.map((entry, place) => make("li", { className: entry.eventId ? "added" : "" },
      make("div", { className: "what" }, titled(entry.title), make("p", { className: "meta" },
        entry.eventId ? make("span", { className: "tag" }, "added") : null,
        entry.known ? null : make("span", { className: "tag" }, "not in the catalogue"),
        entry.title === entry.item_id ? null : make("span", { className: "id" }, "id ", make("bdi", {}, entry.item_id)))),
      button("earlier", "↑", `Move ${entry.title} earlier`, () => move(place, -1), place === 0),
      button("later", "↓", `Move ${entry.title} later`, () => move(place, 1), place === entries.length - 1),
      button("remove", "×", `Remove ${entry.title}`, () => remove(place)))));
    byId("history-note").textContent = note || (!entries.length ? "Nothing yet. Choose a user, or type a title."
      : older.length ? `Oldest first; the latest ${MOST}. ${count(older.length, "older item")} are only kept from being recommended again.` : "Oldest first.");
    const plus = added().length, kept = entries.length - plus, minus = stored.length - kept;
    const moved = !plus && !minus && !isStored();
    const parts = [plus && `${plus} added`, minus && `${minus} removed`, moved && "order changed"].filter(Boolean);
    byId("preview-words").textContent = parts.length ? `Preview: ${parts.join(", ")}. Nothing is saved yet.` : "No unsaved changes.";
    byId("preview").classList.toggle("changed", parts.length > 0);
    byId("preview-buttons").hidden = !parts.length;
    byId("open-save").disabled = !plus;
    if (!plus) openSave(false);
    byId("save").textContent = `Save ${count(plus, "event")}`;
  }

  function openSave(open) {
    byId("save-form").hidden = !open;
    byId("open-save").setAttribute("aria-expanded", String(open));
    if (open) byId("save-user").focus();
  }

  async function save(event) {
    event.preventDefault();
    const [toUser, kind, sent] = [byId("save-user").value.trim(), byId("save-kind").value.trim(), added()];
    byId("save").disabled = true;
    byId("save-error").textContent = "";
    try {
      // The same ids are sent again after a failure, so that no event counts twice.
      const receipt = await api.sendEvents(sent.map((entry) => ({ user_id: toUser, item_id: entry.item_id, kind, event_id: entry.eventId })));
      const words = [`${count(receipt.accepted, "event")} of ${toUser} saved`, ...receipt.refused.map((one) => `event ${one.place + 1} refused: ${one.reason}`)];
      openSave(false);
      await load(toUser);
      byId("preview-words").textContent = `${words.join("; ")}.`;
      say(byId("preview-words").textContent);
      byId("history-heading").focus();
    } catch (problem) {
      byId("save-error").textContent = `Nothing was saved for certain. ${problem.message} Saving again counts nothing twice.`;
    } finally {
      byId("save").disabled = false;
    }
  }

  byId("clear").addEventListener("click", () => { clear(); users.focus(); });
  byId("discard").addEventListener("click", () => { reset(); byId("history-heading").focus(); });
  byId("open-save").addEventListener("click", () => openSave(byId("save-form").hidden));
  byId("save-form").addEventListener("submit", save);

  return { load, clear, add, again: () => ask(false), request, items: () => entries.slice(-MOST) };
}

function button(className, sign, label, click, disabled = false) {
  return make("button", { type: "button", className: `quiet ${className}`, disabled, title: label, "aria-label": label, on: { click } }, sign);
}
