// @ts-check
/** What happens on the service: its events change the state as they come. */

import { getJson, lineOf } from "./api.js";
import { forgetClip } from "./clips.js";
import { say } from "./messages.js";
import { change, openClip, state } from "./store.js";
import { t } from "./strings.js";

/** @typedef {import("./types.js").Clip} Clip */
/** @typedef {import("./types.js").Job} Job */

const AGAIN_MS = 3000;

/** @param {any} data */
function _clip(data) {
  if (data.deleted) return state.clips.has(data.id) ? forgetClip(data.id) : undefined;
  const isNew = !state.clips.has(data.id);
  change({ clips: new Map([...state.clips, [data.id, data]]) });
  if (data.state === "failed" && data.error) say(`${data.name}: ${data.error}`, "error");
  const shown = state.clip && state.clips.get(state.clip)?.state === "ready";
  if (data.state === "ready" && (!shown || (isNew && !state.clip))) openClip(data.id);
  return undefined;
}

/** @param {any} data */
function _job(data) {
  const jobs = new Map(state.jobs);
  if (data.deleted) jobs.delete(data.id);
  else jobs.set(data.id, data);
  const before = state.jobs.get(data.id)?.state;
  change({ jobs });
  if (data.state === before || data.deleted) return;
  const more = [...state.jobs.values()].some((job) => job.state === "queued" || job.state === "running");
  // A message for each of a hundred photos would be too much.
  if (data.state === "done" && before && !more) say(state.jobs.size > 1 ? t("queue.finished") : t("job.finished", { name: data.name }));
  if (data.state === "failed") say(t("job.broke", { name: data.name, error: data.error ?? "" }), "error");
}

/** @param {any} data */
function _progress(data) {
  const job = state.jobs.get(data.id);
  if (job && job.state !== "queued" && job.state !== "running") return;
  if (job) change({ jobs: new Map([...state.jobs, [data.id, { ...job, ...data }]]) });
}

/** @param {any} data */
function _model(data) {
  const models = state.models.map((model) => {
    if (model.name !== data.name) return model;
    return { ...model, fetching: data.state === "fetching", state: data.state, done: data.done, error: data.error, fetched: model.fetched || data.state === "fetched" || data.state === "done" };
  });
  change({ models });
}

/** Load everything that the page shows. */
async function _load() {
  const slow = Promise.all(["formats", "models"].map(getJson)); // the service reads them once
  const [clips, jobs, options, presets] = await Promise.all(["clips", "jobs?limit=500", "settings", "presets"].map(getJson));
  change({
    clips: new Map(clips.clips.map((/** @type {Clip} */ clip) => [clip.id, clip])),
    jobs: new Map(jobs.jobs.map((/** @type {Job} */ job) => [job.id, job])),
    options: options.options, presets: presets.presets, loaded: true,
    selected: state.selected.filter((id) => clips.clips.some((/** @type {Clip} */ clip) => clip.id === id)),
  });
  const current = state.clip ? state.clips.get(state.clip) : null;
  const ready = [...state.clips.values()].find((clip) => clip.state === "ready");
  if (!current && ready) openClip(ready.id);
  else if (!current) change({ clip: null });
  const [formats, models] = await slow;
  change({ formats: formats.formats, models: models.models });
}

/** Events that came while everything was loaded: they are newer. @type {(() => void)[] | null} */
let held = null;

async function _loadAndCatchUp() {
  held ??= [];
  try {
    await _load();
  } catch (error) {
    say(lineOf(error), "error");
  }
  const later = held ?? [];
  held = null;
  for (const action of later) action();
}

/** Show what the service has, and listen from now on; a lost connection is taken up again. */
export function listenToService() {
  const source = new EventSource("api/events");
  const on = (/** @type {string} */ type, /** @type {(data: any) => void} */ action) =>
    source.addEventListener(type, (event) => {
      const data = JSON.parse(event.data);
      if (held) held.push(() => action(data));
      else action(data);
    });
  on("clip", _clip);
  on("job", _job);
  on("progress", _progress);
  on("model", _model);
  source.onopen = () => {
    if (!state.online) say(t("online"));
    change({ online: true });
    void _loadAndCatchUp();
  };
  source.onerror = () => {
    if (state.online) change({ online: false });
    if (source.readyState !== EventSource.CLOSED) return;
    // Refused, not broken: the browser does not try again by itself. The lists say why.
    void _loadAndCatchUp();
    setTimeout(listenToService, AGAIN_MS);
  };
}
