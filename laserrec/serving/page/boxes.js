// The two fields that several views have: a user's id, and an item's title.

import { searchItems, searchUsers } from "./api.js";
import { combobox } from "./combobox.js";
import { make, titled } from "./dom.js";

export const userBox = (container, pick) => combobox(container, {
  label: "User", hint: "Type an id, or press ↓ for the latest",
  find: searchUsers, show: (id) => [titled(id)], pick, free: pick,
  empty: "No recent user's id begins so. Enter looks for exactly this one.",
});

export const itemBox = (container, label, pick) => combobox(container, {
  label, hint: "Type a title",
  find: async (text, signal) => {
    if (!text) return [];
    const found = await searchItems(text, "title", signal);
    return found.length ? found : (await searchItems(text, "meaning", signal)).map((item) => ({ ...item, near: true }));
  },
  show: (item) => [titled(item.title), make("span", { className: "hint" }, item.near ? "near in meaning" : item.item_id)],
  pick, empty: "No item has such a title.",
});
