// @ts-check
/** The pictures of the viewer: their addresses, and a loader that keeps the last ones decoded. */

import { isAbort, refusal } from "./api.js";
import { promptsHere } from "./prompts.js";
import { optionValue, state } from "./store.js";

/** @typedef {import("./types.js").Clip} Clip */

const KEPT = 48;
const HEIGHTS = [240, 360, 540, 720, 1080, 1440, 2160];
/** Options that decide what a frame looks like. Further ones decide files, ranges and speed only. */
const GROUPS = ["Matte", "Key", "Subject", "Controls"];
const OF_INPUT = ["deinterlace", "colour", "video_track", "fps", "runtime", "device"];

/** @returns {Record<string, any>} the settings that a view depends on */
export function viewSettings() {
  /** @type {Record<string, any>} */
  const chosen = {};
  for (const option of state.options) {
    const decides = GROUPS.some((group) => option.group.startsWith(group)) || OF_INPUT.includes(option.name);
    if (decides && option.name in state.settings) chosen[option.name] = state.settings[option.name];
  }
  if (!optionValue("despill")) delete chosen.despill_strength;
  if (optionValue("smooth") === "off") delete chosen.smooth_strength;
  const prompts = promptsHere().map((prompt) => prompt.text);
  if (prompts.length) chosen.subject = prompts;
  else delete chosen.only;
  return chosen;
}

/** @returns {string} what stands behind the subject, as the service's `background` */
export function backdropWord() {
  if (state.backdrop === "colour") return state.colour.replace("#", "");
  if (state.backdrop === "clip") return state.backdropClip ? `clip:${state.backdropClip}` : "checker";
  return state.backdrop;
}

/** @param {Clip} clip @param {number} wanted @returns {number} the height to ask for, at least `wanted` */
export function heightFor(clip, wanted) {
  const source = clip.height ?? 720;
  const step = HEIGHTS.find((height) => height >= wanted) ?? 2160;
  return Math.max(64, Math.min(step, source, 2160));
}

/**
 * @param {Clip} clip
 * @param {number} frame
 * @param {string} view
 * @param {{height?: number, crop?: number[], exact?: boolean}} [how]
 */
export function frameUrl(clip, frame, view, how = {}) {
  const words = new URLSearchParams({ view, format: how.exact ? "png" : "jpeg" });
  if (how.crop) {
    words.set("height", "0");
    words.set("crop", how.crop.join(","));
  } else words.set("height", String(how.height ?? 720));
  if (view === "cutout") words.set("background", backdropWord());
  const settings = view === "source" ? {} : viewSettings();
  if (Object.keys(settings).length) words.set("settings", JSON.stringify(settings));
  return `api/clips/${clip.id}/frames/${frame}?${words}`;
}

/** @param {number} seconds @param {AbortSignal} signal */
function _pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** @typedef {{bitmap: ImageBitmap, subject: string | null}} Picture  subject: what the service says of it */

/** Decoded pictures by address, the last used at the end. */
export class Loader {
  constructor() {
    /** @type {Map<string, Picture>} */
    this.kept = new Map();
  }

  /** @param {string} url @returns {Picture | undefined} */
  at(url) {
    const there = this.kept.get(url);
    if (there) {
      this.kept.delete(url);
      this.kept.set(url, there);
    }
    return there;
  }

  /**
   * The picture at an address. Where the service is busy it is asked again for as long as the
   * signal lets. Throws RefusedError, or the abort.
   *
   * @param {string} url
   * @param {AbortSignal} signal
   * @returns {Promise<Picture>}
   */
  async load(url, signal) {
    const there = this.at(url);
    if (there) return there;
    for (;;) {
      const response = await fetch(url, { signal });
      if (response.ok) {
        const bitmap = await createImageBitmap(await response.blob());
        const picture = { bitmap, subject: response.headers.get("X-Subject") };
        this._keep(url, picture);
        return picture;
      }
      const error = await refusal(response);
      if (error.status !== 503 && error.status !== 429) throw error;
      await _pause(Math.max(0.5, error.wait), signal);
    }
  }

  /** Load without waiting for it. @param {string} url @param {AbortSignal} signal */
  prefetch(url, signal) {
    if (this.kept.has(url)) return;
    this.load(url, signal).catch((error) => {
      // Shown where the frame itself is asked for.
      if (!isAbort(error)) console.debug(url, error);
    });
  }

  /** @param {string} url @param {Picture} picture */
  _keep(url, picture) {
    this.kept.set(url, picture);
    while (this.kept.size > KEPT) {
      const [oldest] = this.kept.keys();
      // Not closed: the viewer may be drawing it.
      this.kept.delete(oldest);
    }
  }
}
