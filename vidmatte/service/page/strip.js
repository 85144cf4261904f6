// @ts-check
/** The strip below the picture: all frames of the clip, the range, key frames, frames worth a look. */

import { h } from "./dom.js";
import { Part, touches } from "./part.js";
import { keyFrames } from "./prompts.js";
import { change, currentClip, goTo, rangeOf, state } from "./store.js";
import { t } from "./strings.js";
import { timecodeOf } from "./timecode.js";

/** @typedef {{kind: string, first: number, last: number}} Mark */

const FAULTS = /** @type {const} */ (["empty", "full", "jumps", "subject_lost"]);

/** @param {import("./types.js").Job} job @returns {Mark[]} what a finished run found worth a look, in order */
export function looksOf(job) {
  const quality = job.quality;
  if (!quality) return [];
  const shift = /^f\d+$/.test(job.settings?.in_point ?? "") ? Number(job.settings.in_point.slice(1)) : 0;
  const marks = FAULTS.flatMap((kind) =>
    (quality[kind] ?? []).map(([first, last]) => ({ kind: /** @type {string} */ (kind), first: first + shift, last: last + shift })),
  );
  for (const frame of quality.subject_doubtful ?? []) marks.push({ kind: "subject_doubtful", first: frame, last: frame });
  return marks.sort((a, b) => a.first - b.first);
}

/** @returns {Mark[]} of the last finished run of the clip in view */
export function looks() {
  /** @type {import("./types.js").Job | undefined} */
  let last;
  for (const job of state.jobs.values()) {
    if (job.clip === state.clip && job.quality && (!last || job.created > last.created)) last = job;
  }
  return last ? looksOf(last) : [];
}

/** @param {1 | -1} way Go to the next key frame or frame worth a look. */
export function goToMark(way) {
  const frames = [...new Set([...keyFrames(), ...looks().map((mark) => mark.first)])].sort((a, b) => a - b);
  const next = way > 0 ? frames.find((frame) => frame > state.frame) : frames.reverse().find((frame) => frame < state.frame);
  if (next !== undefined) goTo(next);
}

class Strip extends Part {
  build() {
    this.range = h("div", { class: "strip-range" });
    this.marks = h("div", { class: "strip-marks" });
    this.head = h("div", { class: "strip-head" });
    this.track = h("div", { class: "strip-track", role: "slider", tabindex: "0", "aria-label": t("strip"), "aria-valuemin": 0 }, this.range, this.marks, this.head);
    this.legend = h("div", { class: "strip-legend" });
    this.append(this.track, this.legend);
    const track = this.track;
    const scrub = (/** @type {PointerEvent} */ event) => {
      const clip = currentClip();
      const box = track.getBoundingClientRect();
      const frames = clip?.frames ?? 1;
      goTo(Math.floor(((event.clientX - box.left) / box.width) * frames));
    };
    track.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      change({ speed: 0 });
      track.setPointerCapture(event.pointerId);
      scrub(event);
    });
    track.addEventListener("pointermove", (event) => {
      if (track.hasPointerCapture(event.pointerId)) scrub(event);
    });
    track.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
      if (step === undefined) return;
      goTo(state.frame + step);
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** @param {Set<import("./part.js").Key> | null} changed */
  update(changed) {
    const clip = currentClip();
    this.hidden = clip?.kind !== "movie";
    const track = this.track;
    if (!clip || this.hidden || !track || !this.head || !this.range) return;
    const frames = Math.max(1, clip.frames ?? 1);
    const place = (/** @type {HTMLElement} */ element, /** @type {number} */ first, /** @type {number} */ last) => {
      element.style.left = `${(100 * first) / frames}%`;
      element.style.width = `${(100 * (last + 1 - first)) / frames}%`;
    };
    place(this.head, state.frame, state.frame);
    track.setAttribute("aria-valuemax", String(frames - 1));
    track.setAttribute("aria-valuenow", String(state.frame));
    track.setAttribute("aria-valuetext", t("strip.value", { n: state.frame, timecode: timecodeOf(state.frame, clip.timecode, clip.rate) }));
    const range = rangeOf(clip.id);
    const whole = range.first === null && range.last === null;
    this.range.hidden = whole;
    place(this.range, range.first ?? 0, range.last ?? frames - 1);
    if (touches(changed, "clip", "clips", "jobs", "prompts")) this._marks(place);
  }

  /** @param {(element: HTMLElement, first: number, last: number) => void} place */
  _marks(place) {
    const marks = [...looks(), ...keyFrames().map((frame) => ({ kind: "key", first: frame, last: frame }))];
    this.marks?.replaceChildren(
      ...marks.map((mark) => {
        const element = h("div", { class: `mark mark-${mark.kind}`, title: `${t(`strip.${mark.kind}`)}: ${mark.first}${mark.last > mark.first ? `–${mark.last}` : ""}` });
        place(element, mark.first, mark.last);
        return element;
      }),
    );
    const kinds = [...new Set(marks.map((mark) => mark.kind))];
    this.legend?.replaceChildren(
      ...kinds.map((kind) => h("span", { class: "legend" }, h("span", { class: `legend-sign mark-${kind}` }), t(`strip.${kind}`))),
    );
  }
}

customElements.define("vm-strip", Strip);
