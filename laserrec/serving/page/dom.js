// Builds elements. Texts of the shop only ever become text nodes, never HTML.

export const byId = (id) => document.getElementById(id);

/** Make an element: names with a dash and `role`, `for`, `scope`, `colspan` are attributes, all others properties; `on` holds listeners. */
export function make(tag, about = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name.includes("-") || ["role", "for", "scope"].includes(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A title from the shop: its direction of writing is its own affair. */
export const titled = (text, className = "title") => make("bdi", { className }, text);

export const unseen = (text) => make("span", { className: "unseen" }, text);

/** Let a screen reader say something. */
export function say(text) {
  byId("live").textContent = text;
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(2)}`;

export const plain = (number) => number.toFixed(2).replace("-", "−");

let made = 0;
export const newId = (what) => `${what}-${(made += 1)}`;

/** Letters that nobody chose before. `randomUUID` is missing where a page is not served over TLS. */
export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
