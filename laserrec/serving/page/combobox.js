// A text field that suggests while one types: arrows move, Enter takes, Escape closes. After the ARIA pattern "combobox with a list".

import { make, newId, say, count } from "./dom.js";

const PAUSE = 120; // milliseconds without a keystroke before it asks

/**
 * Build one into a container.
 *
 * @param container an empty element
 * @param about.label what the field holds
 * @param about.hint what to type
 * @param about.find (text, signal) => Promise of options
 * @param about.show option => nodes that show it
 * @param about.pick called with the option that was taken
 * @param about.free called with the text when Enter is pressed and nothing is chosen; unset where only options count
 * @param about.empty what to say when nothing is found
 */
export function combobox(container, { label, hint, find, show, pick, free, empty }) {
  const [inputId, listId] = [newId("field"), newId("options")];
  const error = make("p", { className: "error", role: "alert", id: newId("error") });
  const list = make("ul", { id: listId, className: "options", role: "listbox", hidden: true, "aria-label": label });
  const note = make("p", { className: "options note", hidden: true });
  const input = make("input", {
    id: inputId, type: "text", placeholder: hint, autocomplete: "off", spellcheck: false, maxLength: 256,
    role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": listId, "aria-describedby": error.id,
  });
  container.replaceChildren(make("label", { for: inputId }, label), make("div", { className: "combobox" }, input, list, note), error);

  let options = [], active = -1, timer = 0, asking = null;

  function close() {
    clearTimeout(timer);
    asking?.abort();
    list.hidden = note.hidden = true;
    list.replaceChildren();
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function point(place) {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = place;
    const chosen = list.children[active];
    if (!chosen) return input.removeAttribute("aria-activedescendant");
    chosen.setAttribute("aria-selected", "true");
    chosen.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", chosen.id);
  }

  function take(place) {
    const option = options[place];
    close();
    input.value = "";
    pick(option);
  }

  async function suggest() {
    asking?.abort();
    const own = (asking = new AbortController());
    const text = input.value.trim();
    error.textContent = "";
    try {
      const found = await find(text, own.signal);
      if (own.signal.aborted) return;
      options = found;
    } catch (problem) {
      if (problem.name === "AbortError") return;
      close();
      error.textContent = problem.message;
      return;
    }
    active = -1;
    input.removeAttribute("aria-activedescendant");
    list.replaceChildren(...options.map((option, place) =>
      make("li", { id: `${listId}-${place}`, role: "option", "aria-selected": "false", on: {
        mousedown: (event) => { event.preventDefault(); take(place); }, // before the field loses the focus
      } }, ...show(option))));
    list.hidden = options.length === 0;
    note.hidden = options.length > 0 || !text;
    note.textContent = empty;
    input.setAttribute("aria-expanded", String(options.length > 0));
    say(options.length ? `${count(options.length, "suggestion")}.` : empty);
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(suggest, PAUSE);
  }

  input.addEventListener("input", soon);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", async (event) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) await suggest();
      if (options.length && !list.hidden) point((active + (event.key === "ArrowDown" ? 1 : active < 0 ? 0 : -1) + options.length) % options.length);
    } else if (event.key === "Escape") {
      if (list.hidden) input.value = "";
      close();
    } else if (event.key === "Enter") {
      event.preventDefault();
      const text = input.value.trim();
      if (active >= 0) return take(active);
      if (!text) return;
      if (free) {
        close();
        input.value = "";
        return free(text);
      }
      clearTimeout(timer);
      await suggest(); // for what is typed now, not what was a moment ago
      if (options.length) take(0);
    }
  });
  return { focus: () => input.focus(), input };
}
