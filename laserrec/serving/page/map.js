// The item map: where the items lie, the history's path through them, and for whoever cannot see it the same as lists.

import * as api from "./api.js";
import { itemBox, userBox } from "./boxes.js";
import { byId, count, make, say, titled } from "./dom.js";
import { LINE, plane } from "./plane.js";

const NEAREST = 8;

/**
 * Build the view.
 *
 * @param about.model () => name of the model whose map it is
 * @param about.history () => the history's items, oldest first
 * @param about.recommended () => the recommended items
 * @param about.load called with the id of a user who was chosen
 * @param about.refused called with a refused key
 */
export function mapView({ model, history, recommended, load, refused }) {
  const canvas = byId("map"), tip = byId("map-tip"), colours = byId("map-colour");
  let found = null, of = null, index = new Map(), chosen = null, near = [], bright = null, asked = 0;

  const drawing = plane(canvas, { onHover: hover, onPick: (row) => choose({ item_id: found.item_ids[row], title: found.titles[row] }) });
  userBox(byId("map-user-box"), load);
  itemBox(byId("map-item-box"), "Find an item", (item) => choose(item, true));

  async function show() {
    const own = (asked += 1), name = model();
    byId("map-error").replaceChildren();
    byId("map-frame").setAttribute("aria-busy", "true");
    try {
      const answer = await api.itemMap(name);
      if (own !== asked) return;
      const stay = of === name && found !== null;
      [found, of, index] = [answer, name, new Map(answer.item_ids.map((id, row) => [id, row]))];
      drawing.show(found.x, found.y, stay);
      describe();
      offer();
      recolour();
      follow();
    } catch (problem) {
      if (problem.status === 401) return refused(problem);
      byId("map-error").replaceChildren(problem.message, " ", make("button", { type: "button", on: { click: show } }, "Try again"));
    } finally {
      if (own === asked) byId("map-frame").removeAttribute("aria-busy");
    }
  }

  function describe() {
    const shown = found.item_ids.length < found.catalogue ? `${found.item_ids.length.toLocaleString("en")} of ${count(found.catalogue, "item")}, evenly spread` : `All ${count(found.catalogue, "item")}`;
    byId("map-note").textContent = `${shown}. Items near each other on the map are alike in two of the model's many directions, `
      + `which hold ${(100 * (found.explained[0] + found.explained[1])).toFixed(0)} % of the differences. Choose an item for those that are nearest in all of them.`;
    canvas.setAttribute("aria-label", `Map of ${count(found.item_ids.length, "item")}`);
  }

  function offer() {
    const before = colours.value;
    colours.replaceChildren(...found.attributes.map(({ name }) => make("option", { value: name }, name.replaceAll("_", " "))), make("option", { value: "" }, "one colour"));
    if (found.attributes.some(({ name }) => name === before)) colours.value = before;
  }

  function recolour() {
    if (!found) return;
    const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
    const attribute = found.attributes.find(({ name }) => name === colours.value);
    const kinds = attribute?.kinds ?? ["items"];
    const palette = kinds.map((kind, place) => colour(kind === "other" ? "--series-other" : `--series-${place}`));
    const codes = attribute?.codes ?? new Uint8Array(found.item_ids.length);
    drawing.colour(codes, { background: colour("--panel"), ink: colour("--ink"), main: colour("--ring"), faint: colour("--line"), colours: palette }, bright);
    const counts = new Array(kinds.length).fill(0);
    for (const code of codes) counts[code] += 1;
    byId("map-legend").replaceChildren(...kinds.map((kind, place) => {
      const swatch = make("span", { className: "swatch", "aria-hidden": "true" });
      swatch.style.setProperty("--colour", palette[place]);
      return make("li", {}, make("button", { type: "button", className: "quiet", "aria-pressed": String(bright === place), on: { click: () => {
        bright = bright === place ? null : place;
        recolour();
        byId("map-legend").querySelectorAll("button")[place].focus();
      } } }, swatch, make("bdi", {}, kind), make("span", { className: "hint" }, ` ${counts[place].toLocaleString("en")}`)));
    }));
  }

  /** Draw the history's path and what is recommended after it. */
  function follow() {
    if (!found) return;
    const items = history(), rows = (list) => list.map((item) => index.get(item.item_id)).filter((row) => row !== undefined);
    const path = rows(items), next = recommended();
    drawing.mark({ path, rings: rows(next), near: rows(near), chosen: index.get(chosen?.item_id) ?? null, label: chosen?.title ?? "" });
    const missing = items.length - path.length;
    byId("map-path-note").textContent = !items.length ? "No history. Choose a user above, or type one under Recommendations."
      : `${count(items.length, "item")}, oldest first; on the map filled dots, the latest ${Math.min(LINE, items.length)} joined by a line. Rings are the ${count(next.length, "recommendation")}.${missing ? ` ${missing} of the history are not on this map.` : ""}`;
    byId("map-path").replaceChildren(...items.map((item) => make("li", {}, button(item))));
    byId("map-path").scrollTop = byId("map-path").scrollHeight;
    byId("map-next").replaceChildren(...next.map((item) => make("li", {}, button(item))));
    byId("map-next-heading").hidden = !next.length;
  }

  const button = (item) => make("button", { type: "button", className: "quiet text", "aria-pressed": String(chosen?.item_id === item.item_id), on: { click: () => choose(item, true) } }, titled(item.title));

  /** Choose an item: mark it, and list those that the model finds nearest. */
  async function choose(item, move = false) {
    [chosen, near] = [item, []];
    const row = index.get(item.item_id), panel = byId("map-chosen");
    if (row !== undefined && move) drawing.centre(row);
    follow();
    const list = make("ol", { className: "plain", "aria-label": `Nearest to ${item.title}` });
    const note = make("p", { className: "hint" }, row === undefined ? "This item is not on the map, which holds a part of the catalogue." : "Asking for the nearest…");
    panel.replaceChildren(make("h3", {}, titled(item.title)), note, list);
    try {
      const nearest = await api.similar(item.item_id, NEAREST);
      if (chosen !== item) return;
      near = nearest;
      follow();
      note.textContent = `${row === undefined ? "Not on the map, which holds a part of the catalogue. " : ""}The nearest in all directions, with their cosine; small rings on the map:`;
      list.replaceChildren(...nearest.map((one) => make("li", {}, button(one), make("span", { className: "number" }, one.score.toFixed(2).replace("-", "−")))));
      say(`${item.title} is chosen. Nearest: ${nearest.slice(0, 3).map((one) => one.title).join(", ")}.`);
    } catch (problem) {
      if (chosen === item) note.replaceChildren(make("span", { className: "error", role: "alert" }, problem.message));
    }
  }

  function hover(row, x, y) {
    tip.hidden = row === null;
    if (row === null) return;
    tip.replaceChildren(titled(found.titles[row]), ...found.attributes.map(({ kinds, codes }) => make("span", { className: "hint" }, make("bdi", {}, kinds[codes[row]]))));
    const left = Math.min(x + 14, canvas.clientWidth - tip.offsetWidth - 4), below = y + 18 + tip.offsetHeight < canvas.clientHeight;
    tip.style.setProperty("--left", `${Math.max(left, 4)}px`);
    tip.style.setProperty("--top", `${below ? y + 14 : y - 12 - tip.offsetHeight}px`);
  }

  colours.addEventListener("change", () => { bright = null; recolour(); });
  byId("map-in").addEventListener("click", () => drawing.zoom(true));
  byId("map-out").addEventListener("click", () => drawing.zoom(false));
  byId("map-fit").addEventListener("click", drawing.fit);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  return { show, follow };
}
