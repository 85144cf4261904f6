// @ts-check
/** Requests to the service. Addresses are relative, so that the page also works below a path. */

/** A request that was refused, with the service's one line. */
export class RefusedError extends Error {
  /** @param {number} status @param {string} message @param {number} wait */
  constructor(status, message, wait) {
    super(message);
    this.status = status;
    /** seconds after which the same request may succeed, 0: not known */
    this.wait = wait;
  }
}

/** Called where the service wants a token. @type {() => void} */
let wantsToken = () => {};

/** @param {() => void} action */
export function onTokenWanted(action) {
  wantsToken = action;
}

/**
 * @param {Response} response
 * @returns {Promise<RefusedError>}
 */
export async function refusal(response) {
  if (response.status === 401) wantsToken();
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).message ?? message;
  } catch {
    // Not the service's own answer, such as a proxy's page: its status must do.
  }
  const wait = Number.parseFloat(response.headers.get("Retry-After") ?? "0");
  return new RefusedError(response.status, message, Number.isFinite(wait) ? wait : 0);
}

/**
 * @param {string} path  after api/
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function request(path, init) {
  const response = await fetch(`api/${path}`, init);
  if (!response.ok) throw await refusal(response);
  return response;
}

/** @param {string} path @returns {Promise<any>} */
export async function getJson(path) {
  return (await request(path)).json();
}

/**
 * @param {string} path
 * @param {any} [body]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function postJson(path, body, signal) {
  const response = await request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
  });
  return response.status === 204 ? null : response.json();
}

/** @param {string} path */
export async function remove(path) {
  await request(path, { method: "DELETE" });
}

/** @param {unknown} error @returns {boolean} */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

/** @param {unknown} error @returns {string} */
export function lineOf(error) {
  return error instanceof Error ? error.message : String(error);
}
