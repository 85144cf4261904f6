// @ts-check
/**
 * The state of the page, and what of it survives a reload: the clip, frame and view are in the
 * address, everything that was set is in localStorage, clips and jobs are on the server.
 */

/** @typedef {import("./types.js").Clip} Clip */
/** @typedef {import("./types.js").Job} Job */
/** @typedef {import("./types.js").Settings} Settings */
/** @typedef {import("./types.js").Output} Output */
/** @typedef {import("./types.js").Range} Range */

export const VIEWS = ["source", "alpha", "cutout", "overlay", "wipe", "difference", "subject"];
const STORED = [
  "settings", "output", "preset", "prompts", "ranges", "frames", "selected", "backdrop", "colour",
  "backdropClip", "split", "tool", "keys", "language", "theme",
  "panels",
];
const STORE = "vidmatte";

export const state = {
  clips: /** @type {Map<string, Clip>} */ (new Map()),
  jobs: /** @type {Map<string, Job>} */ (new Map()),
  uploads: /** @type {import("./types.js").Upload[]} */ ([]),
  options: /** @type {import("./types.js").Option[]} */ ([]),
  formats: /** @type {import("./types.js").Format[]} */ ([]),
  models: /** @type {import("./types.js").Model[]} */ ([]),
  presets: /** @type {import("./types.js").Preset[]} */ ([]),
  clip: /** @type {string | null} */ (null),
  selected: /** @type {string[]} */ ([]),
  frame: 0,
  view: "cutout",
  /** behind the subject in the viewer: checker, black, white, colour or clip */
  backdrop: "checker",
  colour: "#3a7d44",
  backdropClip: /** @type {string | null} */ (null),
  split: 0.5,
  tool: "hand",
  /** 0: fitted to the window; else screen pixels per pixel of the clip */
  zoom: 0,
  /** frames per frame while it plays: 1, 2, -1, ...; 0 stands */
  speed: 0,
  settings: /** @type {Settings} */ ({}),
  output: /** @type {Output} */ ({ format: null, extras: [], background: null, timeline: null }),
  preset: /** @type {string | null} */ (null),
  prompts: /** @type {Record<string, string[]>} */ ({}),
  candidates: /** @type {import("./types.js").Candidate[]} */ ([]),
  ranges: /** @type {Record<string, Range>} */ ({}),
  frames: /** @type {Record<string, number>} */ ({}),
  keys: true,
  /** which panels are open or closed by hand */
  panels: /** @type {Record<string, boolean>} */ ({}),
  language: "",
  theme: "",
  loaded: false,
  online: true,
  command: "",
  fault: "",
};

/** @typedef {typeof state} State */
/** @typedef {keyof State} Key */
/** @typedef {(changed: Set<Key>) => void} Listener */

/** @type {Set<Listener>} */
const listeners = new Set();
/** @type {Set<Key>} */
let changed = new Set();

/**
 * Change the state; listeners are called once for all changes of a task.
 *
 * @param {Partial<State>} patch
 */
export function change(patch) {
  for (const [name, value] of Object.entries(patch)) {
    const key = /** @type {Key} */ (name);
    if (state[key] === value) continue;
    Object.assign(state, { [key]: value });
    if (!changed.size) queueMicrotask(_tell);
    changed.add(key);
  }
}

function _tell() {
  const now = changed;
  changed = new Set();
  _keep(now);
  for (const listener of [...listeners]) listener(now);
}

/**
 * @param {Listener} listener
 * @returns {() => void} ends it
 */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** @param {Set<Key>} now */
function _keep(now) {
  if (STORED.some((name) => now.has(/** @type {Key} */ (name)))) {
    const kept = Object.fromEntries(STORED.map((name) => [name, state[/** @type {Key} */ (name)]]));
    try {
      localStorage.setItem(STORE, JSON.stringify(kept));
    } catch {
      // A browser that stores nothing (private windows): the page works, a reload forgets.
    }
  }
  if (now.has("clip") || now.has("frame") || now.has("view")) {
    const words = new URLSearchParams();
    if (state.clip) words.set("clip", state.clip);
    if (state.frame) words.set("frame", String(state.frame));
    words.set("view", state.view);
    history.replaceState(null, "", `#${words}`);
  }
}

/** Take over what an earlier visit has stored, and what the address says. */
export function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORE) ?? "{}");
    for (const name of STORED) {
      const old = state[/** @type {Key} */ (name)];
      const value = kept[name];
      // Of another kind: stored by another version.
      if (value !== undefined && (old === null || value === null || typeof value === typeof old)) {
        change({ [name]: value });
      }
    }
  } catch {
    localStorage.removeItem(STORE);
  }
  readAddress();
}

/** Go to the clip, frame and view of the address. */
export function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  const view = words.get("view") ?? state.view;
  const frame = Number.parseInt(words.get("frame") ?? "0", 10);
  change({
    clip: words.get("clip") ?? state.clip,
    frame: Number.isFinite(frame) && frame > 0 ? frame : 0,
    view: VIEWS.includes(view) ? view : "cutout",
  });
}

/** The clip in view, once it can be read. @returns {Clip | null} */
export function currentClip() {
  const clip = state.clip ? state.clips.get(state.clip) : null;
  return clip && clip.state === "ready" ? clip : null;
}

/** @param {string} id @param {number} [frame] */
export function openClip(id, frame) {
  if (state.clip) state.frames = { ...state.frames, [state.clip]: state.frame };
  change({ clip: id, frame: frame ?? state.frames[id] ?? 0, speed: 0, candidates: [] });
}

/** @param {number} frame Go to that frame of the clip in view, or to the nearest that there is. */
export function goTo(frame) {
  const clip = currentClip();
  if (!clip) return;
  const last = Math.max(0, (clip.frames ?? 1) - 1);
  const number = Math.min(last, Math.max(0, Math.round(frame)));
  change({ frame: number, frames: { ...state.frames, [clip.id]: number } });
}

/** @returns {Clip[]} those that are ticked, else the one in view */
export function chosenClips() {
  const ticked = state.selected.map((id) => state.clips.get(id)).filter((clip) => clip?.state === "ready");
  const current = currentClip();
  return /** @type {Clip[]} */ (ticked.length ? ticked : current ? [current] : []);
}

/** @param {string} name @param {any} value Set an option; its default takes it out of the settings. */
export function setOption(name, value) {
  const option = state.options.find((one) => one.name === name);
  const settings = { ...state.settings };
  const isDefault = value === null || (option && JSON.stringify(option.default) === JSON.stringify(value));
  if (isDefault) delete settings[name];
  else settings[name] = value;
  change({ settings });
}

/** @param {string} name @returns {any} an option's value, its default where it is not set */
export function optionValue(name) {
  if (name in state.settings) return state.settings[name];
  return state.options.find((one) => one.name === name)?.default ?? null;
}

/** @param {Partial<Output>} patch */
export function setOutput(patch) {
  change({ output: { ...state.output, ...patch } });
}

/** @param {string} id @returns {Range} */
export function rangeOf(id) {
  return state.ranges[id] ?? { first: null, last: null };
}

/** @param {Partial<Range>} patch of the clip in view; a range that would be empty loses its other end */
export function setRange(patch) {
  const clip = currentClip();
  if (!clip) return;
  const range = { ...rangeOf(clip.id), ...patch };
  if (range.first !== null && range.last !== null && range.first > range.last) {
    if ("first" in patch) range.last = null;
    else range.first = null;
  }
  change({ ranges: { ...state.ranges, [clip.id]: range } });
}
