// @ts-check
/** Playing: the frame number runs in real time; the picture shows what the service keeps up with. */

import { change, currentClip, goTo, listen, state } from "./store.js";
import { rateOf } from "./timecode.js";

const FASTEST = 8;
let ticking = 0;
let began = 0;
let from = 0;
let last = -1;

/** @param {1 | -1} way L or J: play, the other way, or twice as fast */
export function shuttle(way) {
  const clip = currentClip();
  if (!clip || clip.kind !== "movie") return;
  const same = Math.sign(state.speed) === way;
  const speed = same ? Math.min(FASTEST, Math.abs(state.speed) * 2) * way : way;
  const end = way > 0 ? (clip.frames ?? 1) - 1 : 0;
  if (state.frame === end) goTo(way > 0 ? 0 : (clip.frames ?? 1) - 1);
  change({ speed });
}

export function pause() {
  change({ speed: 0 });
}

export function togglePlay() {
  if (state.speed) pause();
  else shuttle(1);
}

/** @param {number} now */
function _tick(now) {
  ticking = 0;
  const clip = currentClip();
  if (!clip || !state.speed) return;
  if (state.frame !== last) _start(now); // moved by hand meanwhile
  const frame = from + Math.trunc(((now - began) / 1000) * rateOf(clip.rate) * state.speed);
  const end = (clip.frames ?? 1) - 1;
  goTo(frame);
  last = state.frame;
  if (frame <= 0 && state.speed < 0) pause();
  else if (frame >= end && state.speed > 0) pause();
  else ticking = requestAnimationFrame(_tick);
}

/** @param {number} now */
function _start(now) {
  began = now;
  from = state.frame;
  last = state.frame;
}

listen((changed) => {
  if (!changed.has("speed") || !state.speed) return;
  _start(performance.now());
  if (!ticking) ticking = requestAnimationFrame(_tick);
});
