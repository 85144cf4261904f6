// @ts-check
/** The pointer in the picture: pan, zoom, and the choice of the subject by clicks and boxes. */

import { LABEL } from "./overlay.js";
import { addPrompt } from "./prompts.js";
import { change, currentClip, state } from "./store.js";

/** @typedef {import("./stage.js").Stage} Stage */

/** CSS pixels that a press may move and still be a click. */
const CLICK = 4;

/** The pixel that a place is in. @param {number} value @param {number} below */
const inside = (value, below) => Math.min(below - 1, Math.max(0, Math.floor(value)));

/** @param {Stage} stage @param {number} x @param {number} y @param {boolean} wanted pixels of the clip */
export function addPoint(stage, x, y, wanted) {
  const { width, height } = stage.geometry.size;
  if (x < 0 || y < 0 || x >= width || y >= height) return;
  addPrompt(`${wanted ? "" : "!"}${inside(x, width)},${inside(y, height)}`);
}

/** @param {number[]} box @param {boolean} wanted @param {{width: number, height: number}} size */
function _addBox(box, wanted, size) {
  const left = inside(Math.min(box[0], box[2]), size.width);
  const top = inside(Math.min(box[1], box[3]), size.height);
  const right = inside(Math.max(box[0], box[2]), size.width) + 1;
  const bottom = inside(Math.max(box[1], box[3]), size.height) + 1;
  if (right - left > 1 && bottom - top > 1) addPrompt(`${wanted ? "" : "!"}${left},${top},${right},${bottom}`);
}

/** @param {Stage} stage @param {number} x @param {number} y @returns {number | null} whose label is there */
function _candidateAt(stage, x, y) {
  for (const one of state.candidates) {
    const corner = stage.geometry.toStage(one.left, one.top);
    if (x >= corner.x && x <= corner.x + LABEL && y >= corner.y && y <= corner.y + LABEL) return one.number;
  }
  return null;
}

/** Listen to the pointer and the wheel. @param {Stage} stage @param {HTMLElement} surface */
export function addGestures(stage, surface) {
  /** @type {{x: number, y: number, mode: string, lastX: number, lastY: number} | null} */
  let press = null;
  const at = (/** @type {MouseEvent} */ event) => {
    const box = surface.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  surface.addEventListener("pointerdown", (event) => {
    if (!currentClip() || event.button > 1) return;
    const here = at(event);
    const choose = state.tool === "subject" && event.button === 0 && !stage.spaceHeld;
    press = { ...here, mode: choose ? "choose" : "pan", lastX: here.x, lastY: here.y };
    surface.setPointerCapture(event.pointerId);
    if (event.button === 1) event.preventDefault();
  });
  surface.addEventListener("pointermove", (event) => {
    if (!press) return;
    const here = at(event);
    if (press.mode === "pan") {
      stage.geometry.pan(here.x - press.lastX, here.y - press.lastY);
      stage.moved();
    } else if (Math.hypot(here.x - press.x, here.y - press.y) > CLICK) {
      const [first, last] = [stage.geometry.toClip(press.x, press.y), stage.geometry.toClip(here.x, here.y)];
      stage.showBox([first.x, first.y, last.x, last.y], !(event.shiftKey || event.altKey));
    }
    press.lastX = here.x;
    press.lastY = here.y;
  });
  surface.addEventListener("pointerup", (event) => {
    if (press?.mode === "choose") {
      const wanted = !(event.shiftKey || event.altKey);
      const number = _candidateAt(stage, press.x, press.y);
      const point = stage.geometry.toClip(press.x, press.y);
      if (stage.box) _addBox(stage.box, wanted, stage.geometry.size);
      else if (number !== null) addPrompt(`${wanted ? "" : "!"}${number}`);
      else addPoint(stage, point.x, point.y, wanted);
    }
    press = null;
    stage.showBox(null, true);
  });
  surface.addEventListener("pointercancel", () => {
    press = null;
    stage.showBox(null, true);
  });
  surface.addEventListener("wheel", (event) => {
    if (!currentClip()) return;
    event.preventDefault();
    const here = at(event);
    stage.geometry.zoomBy(Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)), here.x, here.y);
    stage.moved();
  }, { passive: false });
  surface.addEventListener("dblclick", (event) => {
    if (state.tool !== "hand" || !currentClip()) return;
    const here = at(event);
    if (state.zoom) change({ zoom: 0 });
    else stage.geometry.zoomTo(1, here.x, here.y);
  });
}
