// @ts-check
/**
 * Uploads after the tus protocol 1.0.0 (https://tus.io/protocols/resumable-upload): in pieces, and
 * on from the service's offset after a broken connection. A page that was reloaded has lost its
 * files; it remembers the uploads and goes on when the same file is chosen again.
 */

import { RefusedError, isAbort, lineOf, refusal } from "./api.js";
import { say } from "./messages.js";
import { change, state } from "./store.js";
import { t } from "./strings.js";

/** @typedef {import("./types.js").Upload} Upload */

const PIECE = 8 * 1024 * 1024;
const AT_ONCE = 2;
const LONGEST_WAIT_S = 20;
const STORE = "vidmatte-uploads";
const VERSION = { "Tus-Resumable": "1.0.0" };

/** @typedef {{url: string, name: string, size: number, modified: number}} Unfinished */

/** @type {Map<number, {file: File | null, url: string, stop: AbortController}>} */
const running = new Map();
let lastKey = 0;

/** @returns {Unfinished[]} */
function _unfinished() {
  try {
    return JSON.parse(localStorage.getItem(STORE) ?? "[]");
  } catch {
    return [];
  }
}

/** @param {Unfinished[]} list */
function _remember(list) {
  try {
    localStorage.setItem(STORE, JSON.stringify(list));
  } catch {
    // Nothing is stored: this upload then ends with the page.
  }
}

/** @param {string} url */
function _forget(url) {
  _remember(_unfinished().filter((one) => one.url !== url));
}

/** @param {number} key @param {Partial<Upload>} patch */
function _show(key, patch) {
  change({ uploads: state.uploads.map((one) => (one.key === key ? { ...one, ...patch } : one)) });
}

/** @param {number} key */
function _drop(key) {
  running.delete(key);
  change({ uploads: state.uploads.filter((one) => one.key !== key) });
  _next();
}

/** Upload files, two at a time. @param {Iterable<File>} files */
export function upload(files) {
  for (const file of files) {
    const known = _unfinished().find(
      (one) => one.name === file.name && one.size === file.size && one.modified === file.lastModified,
    );
    if (known) {
      for (const [key, job] of running) if (job.url === known.url && !job.file) _drop(key);
    }
    lastKey += 1;
    running.set(lastKey, { file, url: known?.url ?? "", stop: new AbortController() });
    const shown = { key: lastKey, name: file.name, size: file.size, sent: 0, message: "" };
    change({ uploads: [...state.uploads, { ...shown, state: "waiting" }] });
  }
  _next();
}

function _next() {
  let free = AT_ONCE - state.uploads.filter((one) => one.state === "sending" || one.state === "broken").length;
  for (const one of state.uploads) {
    if (free <= 0) return;
    if (one.state !== "waiting") continue;
    free -= 1;
    _show(one.key, { state: "sending" });
    _run(one.key);
  }
}

/** @param {number} key */
async function _run(key) {
  const job = running.get(key);
  if (!job?.file) return;
  let failures = 0;
  for (;;) {
    try {
      await _sendAll(key, job, job.file, () => (failures = 0));
      _forget(job.url);
      _drop(key);
      return;
    } catch (error) {
      if (isAbort(error) || job.stop.signal.aborted) return;
      const lasting = error instanceof RefusedError && error.status >= 400 && error.status < 500;
      if (lasting && ![409, 423, 429].includes(error.status)) {
        _forget(job.url);
        _show(key, { state: "failed", message: lineOf(error) });
        say(`${job.file.name}: ${lineOf(error)}`, "error");
        _next();
        return;
      }
      failures += 1;
      const wait = error instanceof RefusedError && error.wait ? error.wait : Math.min(2 ** failures / 2, LONGEST_WAIT_S);
      _show(key, { state: "broken", message: error instanceof RefusedError ? lineOf(error) : t("upload.broken") });
      await new Promise((resolve) => setTimeout(resolve, wait * 1000));
      if (job.stop.signal.aborted) return;
      _show(key, { state: "sending", message: "" });
    }
  }
}

/**
 * @param {number} key
 * @param {{url: string, stop: AbortController}} job
 * @param {File} file
 * @param {() => void} moved  called whenever a piece has arrived
 */
async function _sendAll(key, job, file, moved) {
  let offset = job.url ? await _offset(job, file) : -1;
  if (offset < 0) {
    job.url = await _create(file, job.stop.signal);
    const { name, size, lastModified: modified } = file;
    _remember([..._unfinished(), { url: job.url, name, size, modified }]);
    offset = 0;
  }
  // An empty file too is sent once: the service answers what is wrong with it.
  do {
    offset = await _sendPiece(job, file, offset, (sent) => _show(key, { sent }));
    moved();
    _show(key, { sent: offset });
  } while (offset < file.size);
}

/** @param {File} file @param {AbortSignal} signal @returns {Promise<string>} the upload's address */
async function _create(file, signal) {
  const name = btoa(String.fromCharCode(...new TextEncoder().encode(file.name)));
  const headers = { ...VERSION, "Upload-Length": String(file.size), "Upload-Metadata": `filename ${name}` };
  const response = await fetch("api/uploads", { method: "POST", headers, signal });
  if (!response.ok) throw await refusal(response);
  return new URL(response.headers.get("Location") ?? "", response.url).href;
}

/** @param {{url: string, stop: AbortController}} job @param {File} file @returns {Promise<number>} -1: it is gone */
async function _offset(job, file) {
  const response = await fetch(job.url, { method: "HEAD", headers: VERSION, signal: job.stop.signal });
  if (response.status === 404 || response.status === 410) {
    _forget(job.url);
    return -1;
  }
  if (!response.ok) throw await refusal(response);
  return Math.min(Number(response.headers.get("Upload-Offset") ?? 0), file.size);
}

/**
 * Send one piece. fetch reports no progress of what it sends; XMLHttpRequest does.
 *
 * @param {{url: string, stop: AbortController}} job
 * @param {File} file
 * @param {number} offset
 * @param {(sent: number) => void} progress
 * @returns {Promise<number>} the new offset
 */
function _sendPiece(job, file, offset, progress) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    const stop = () => call.abort();
    job.stop.signal.addEventListener("abort", stop);
    call.open("PATCH", job.url);
    call.setRequestHeader("Tus-Resumable", "1.0.0");
    call.setRequestHeader("Upload-Offset", String(offset));
    call.setRequestHeader("Content-Type", "application/offset+octet-stream");
    call.upload.onprogress = (event) => progress(offset + event.loaded);
    call.onerror = () => reject(new Error(t("upload.broken")));
    call.onabort = () => reject(new DOMException("aborted", "AbortError"));
    call.onload = () => {
      if (call.status === 204) resolve(Number(call.getResponseHeader("Upload-Offset") ?? offset));
      else reject(_refused(call));
    };
    call.onloadend = () => job.stop.signal.removeEventListener("abort", stop);
    call.send(file.slice(offset, offset + PIECE));
  });
}

/** @param {XMLHttpRequest} call */
function _refused(call) {
  let message = `${call.status} ${call.statusText}`;
  try {
    message = JSON.parse(call.responseText).message ?? message;
  } catch {
    // A proxy's page: its status must do.
  }
  return new RefusedError(call.status, message, Number(call.getResponseHeader("Retry-After") ?? 0));
}

/** @param {number} key End an upload and delete what has arrived. */
export async function cancelUpload(key) {
  const job = running.get(key);
  job?.stop.abort();
  _drop(key);
  if (!job?.url) return;
  _forget(job.url);
  try {
    await fetch(job.url, { method: "DELETE", headers: VERSION });
  } catch (error) {
    say(lineOf(error), "error"); // the service deletes it when it expires
  }
}

/** Show the uploads that an earlier page has begun and not finished. */
export async function showUnfinished() {
  for (const one of _unfinished()) {
    try {
      const answer = await fetch(one.url, { method: "HEAD", headers: VERSION });
      if (!answer.ok) {
        _forget(one.url);
        continue;
      }
      lastKey += 1;
      running.set(lastKey, { file: null, url: one.url, stop: new AbortController() });
      const sent = Number(answer.headers.get("Upload-Offset") ?? 0);
      const shown = { key: lastKey, name: one.name, size: one.size, sent, message: t("upload.lost") };
      change({ uploads: [...state.uploads, { ...shown, state: "lost" }] });
    } catch {
      return; // no connection: the next visit shows them
    }
  }
}

window.addEventListener("beforeunload", (event) => {
  if (state.uploads.some((one) => one.state === "sending" || one.state === "broken")) event.preventDefault();
});
