// @ts-check
/** The keys of the page. Single keys act only outside fields, and can be switched off. */

import { showHelp } from "./dialogs.js";
import { pause, shuttle, togglePlay } from "./player.js";
import { redo, undo } from "./prompts.js";
import { run } from "./run.js";
import { Stage } from "./stage.js";
import { VIEWS, change, currentClip, goTo, openClip, setRange, state } from "./store.js";
import { goToMark } from "./strip.js";
import { nextBackdrop, zoom } from "./toolbar.js";

/** @param {number} way */
function _otherClip(way) {
  const ids = [...state.clips.values()].filter((clip) => clip.state === "ready").map((clip) => clip.id);
  const at = ids.indexOf(state.clip ?? "");
  const next = ids[Math.min(ids.length - 1, Math.max(0, at + way))];
  if (next && next !== state.clip) openClip(next);
}

function _typeFrame() {
  /** @type {HTMLInputElement | null} */ (document.querySelector("[data-field=frame]"))?.focus();
}

/** @type {Record<string, () => void>} */
const SINGLE = {
  ",": () => goTo(state.frame - 1),
  ".": () => goTo(state.frame + 1),
  "<": () => goTo(state.frame - 10),
  ">": () => goTo(state.frame + 10),
  "j": () => shuttle(-1),
  "k": pause,
  "l": () => shuttle(1),
  "i": () => setRange({ first: state.frame }),
  "o": () => setRange({ last: state.frame }),
  "x": () => setRange({ first: null, last: null }),
  "[": () => goToMark(-1),
  "]": () => goToMark(1),
  "g": _typeFrame,
  "s": () => change({ tool: "subject" }),
  "v": () => change({ tool: "hand" }),
  "0": () => zoom("fit"),
  "z": () => zoom("one"),
  "+": () => zoom("in"),
  "=": () => zoom("in"),
  "-": () => zoom("out"),
  "b": nextBackdrop,
  "?": showHelp,
};

/** Keys with a use of their own in controls. @type {Record<string, () => void>} */
const NAMED = {
  Home: () => goTo(0),
  End: () => goTo(Number.MAX_SAFE_INTEGER),
  PageUp: () => _otherClip(-1),
  PageDown: () => _otherClip(1),
  ArrowLeft: () => goTo(state.frame - 1),
  ArrowRight: () => goTo(state.frame + 1),
  " ": togglePlay,
};

/** @param {KeyboardEvent} event @returns {boolean} whether its target writes text */
function _writes(event) {
  const target = event.target;
  if (target instanceof HTMLInputElement) return !["checkbox", "range", "color", "file"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

/** @param {KeyboardEvent} event @returns {boolean} whether its target uses Home, arrows or Space itself */
function _uses(event) {
  const target = event.target;
  if (!(target instanceof HTMLElement)) return false;
  if (event.key === " ") return Boolean(target.closest("button, a, summary, input, [role=textbox]"));
  if (target instanceof HTMLInputElement) return true;
  if (event.key.startsWith("Page") || event.key.startsWith("Arrow")) {
    // What scrolls, scrolls.
    return Boolean(target.closest("aside, vm-queue, [role=textbox]"));
  }
  return false;
}

/** @param {KeyboardEvent} event @returns {(() => void) | null} */
function _action(event) {
  if (document.querySelector("dialog")) return null;
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (command && key === "Enter") return () => void run();
  if (_writes(event) || event.altKey) return null;
  if (command && key === "z") return event.shiftKey ? redo : undo;
  if (command || !state.keys) return null;
  if (key in NAMED) return _uses(event) ? null : NAMED[key];
  const view = VIEWS[Number(key) - 1];
  if (/^[1-9]$/.test(key)) return view ? () => change({ view }) : null;
  return SINGLE[key] ?? null;
}

/** Listen to the keyboard. */
export function addKeys() {
  addEventListener("keydown", (event) => {
    const stage = document.querySelector("vm-stage");
    if (event.key === " " && stage instanceof Stage) stage.spaceHeld = event.target === stage.canvas;
    const action = _action(event);
    if (!action) return;
    event.preventDefault();
    // Space held in the picture moves it, and is no second press.
    if (event.repeat && (event.key === " " || ["j", "l", "Enter"].includes(event.key))) return;
    if (currentClip() || event.key === "?") action();
  });
  addEventListener("keyup", (event) => {
    const stage = document.querySelector("vm-stage");
    if (event.key === " " && stage instanceof Stage) stage.spaceHeld = false;
  });
}
