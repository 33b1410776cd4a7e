// Asks the service, with the key that this tab holds, and says in words what went wrong.

const KEY = "laserrec-key";
const PATIENCE = 20_000; // milliseconds; the service's own deadline is shorter

export class Problem extends Error {
  constructor(message, status, canRetry) {
    super(message);
    this.status = status;
    this.canRetry = canRetry;
  }
}

export const heldKey = () => sessionStorage.getItem(KEY) ?? "";

export function holdKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** Send a request; returns the answer's JSON, or its text where it is none. An aborted request throws `AbortError`. */
export async function ask(method, path, { body, signal, allow = [] } = {}) {
  const headers = heldKey() ? { Authorization: `Bearer ${heldKey()}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const late = AbortSignal.timeout(PATIENCE);
  let answer, text;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal: signal ? AbortSignal.any([signal, late]) : late });
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw new DOMException("", "AbortError");
    if (late.aborted) throw new Problem("No answer came within 20 seconds.", 0, true);
    throw new Problem("The service cannot be reached. It may have ended, or the network is down.", 0, true);
  }
  const isJson = answer.headers.get("Content-Type")?.includes("json");
  let found = text;
  if (isJson) {
    try {
      found = JSON.parse(text);
    } catch {
      throw new Problem("The service's answer could not be read.", answer.status, true);
    }
  }
  if (answer.ok || allow.includes(answer.status)) return found;
  const wait = answer.headers.get("Retry-After");
  const message = found?.message ?? `The service answered with status ${answer.status}.`;
  throw new Problem(wait ? `${message} Try again in ${wait} s.` : message, answer.status, [429, 500, 503, 504].includes(answer.status));
}

const at = (path, values) => `${path}?${new URLSearchParams(values)}`;

export const recommend = (requests, signal) =>
  ask("POST", "/v1/recommendations/batch", { body: { requests: requests.map((one) => ({ ...one, preview: true })) }, signal }).then(({ answers }) => answers);
export const searchItems = (query, by, signal) => ask("GET", at("/v1/items", { query, by, k: 8 }), { signal }).then(({ items }) => items);
export const searchUsers = (query, signal, k = 8) => ask("GET", at("/v1/users", { query, k }), { signal }).then(({ user_ids }) => user_ids);
export const history = (user) => ask("GET", at(`/v1/users/${encodeURIComponent(user)}/history`, { limit: 1000 })).then(({ events }) => events);
export const sendEvents = (events) => ask("POST", "/v1/events", { body: { events } });
export const models = () => ask("GET", "/v1/models").then(({ models }) => models);
export const readiness = () => ask("GET", "/readyz", { allow: [503] });
export const itemMap = (model) => ask("GET", at("/v1/map", { model }));
export const similar = (id, k) => ask("GET", at(`/v1/items/${encodeURIComponent(id)}/similar`, { k })).then(({ items }) => items);
export const metrics = () => ask("GET", "/metrics");
export const item = (id) => ask("GET", `/v1/items/${encodeURIComponent(id)}`, { allow: [404] }).then((found) => (found.error ? null : found));
export const putItem = (id, attributes) => ask("POST", "/v1/items", { body: { items: [{ item_id: id, attributes }] } });
export const deleteItem = (id) => ask("DELETE", `/v1/items/${encodeURIComponent(id)}`);
