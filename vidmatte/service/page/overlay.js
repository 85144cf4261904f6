// @ts-check
/** What is drawn over the picture: prompts, candidates, the cross and the box in the making. */

import { promptsHere } from "./prompts.js";
import { currentClip, state } from "./store.js";

/** @typedef {import("./geometry.js").Geometry} Geometry */
/** @typedef {import("./types.js").Candidate} Candidate */

const KEEP = "#3ddc84";
const NOT = "#ff6b5e";
const CANDIDATE = "#ffd24a";
const DARK = "rgba(0, 0, 0, .75)";
const RADIUS = 8;
/** Width and height of a candidate's number. */
export const LABEL = 22;

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Geometry} geometry
 * @param {{x: number, y: number} | null} cross  pixels of the clip
 * @param {number[] | null} box  left, top, right, bottom, pixels of the clip
 * @param {boolean} wanted  of the box
 */
export function drawOverlay(pen, geometry, cross, box, wanted) {
  if (state.tool !== "subject") return;
  for (const one of state.candidates) _candidate(pen, geometry, one);
  const clip = currentClip();
  for (const prompt of promptsHere()) {
    if (clip?.kind === "movie" && prompt.frame !== state.frame) continue;
    const colour = prompt.wanted ? KEEP : NOT;
    if (prompt.kind === "point") _point(pen, geometry.toStage(prompt.numbers[0], prompt.numbers[1]), colour, prompt.wanted);
    if (prompt.kind === "box") _box(pen, geometry, prompt.numbers, colour, prompt.wanted);
  }
  if (box) _box(pen, geometry, box, wanted ? KEEP : NOT, wanted);
  if (cross) _cross(pen, geometry.toStage(cross.x, cross.y));
}

/** Stroke what was laid out, dark and wide below, in colour above: visible on any picture. @param {CanvasRenderingContext2D} pen @param {string} colour */
function _stroke(pen, colour) {
  pen.lineWidth = 4;
  pen.strokeStyle = DARK;
  pen.stroke();
  pen.lineWidth = 2;
  pen.strokeStyle = colour;
  pen.stroke();
}

/** @param {CanvasRenderingContext2D} pen @param {{x: number, y: number}} at @param {string} colour @param {boolean} wanted */
function _point(pen, at, colour, wanted) {
  pen.beginPath();
  pen.arc(at.x, at.y, RADIUS, 0, 2 * Math.PI);
  pen.fillStyle = DARK;
  pen.fill();
  _stroke(pen, colour);
  pen.beginPath();
  pen.moveTo(at.x - 4, at.y);
  pen.lineTo(at.x + 4, at.y);
  if (wanted) {
    pen.moveTo(at.x, at.y - 4);
    pen.lineTo(at.x, at.y + 4);
  }
  pen.lineWidth = 2;
  pen.strokeStyle = colour;
  pen.stroke();
}

/** @param {CanvasRenderingContext2D} pen @param {Geometry} geometry @param {number[]} box @param {string} colour @param {boolean} wanted */
function _box(pen, geometry, box, colour, wanted) {
  const first = geometry.toStage(box[0], box[1]);
  const last = geometry.toStage(box[2], box[3]);
  pen.save();
  if (!wanted) pen.setLineDash([6, 4]);
  pen.beginPath();
  pen.rect(first.x, first.y, last.x - first.x, last.y - first.y);
  _stroke(pen, colour);
  pen.restore();
}

/** @param {CanvasRenderingContext2D} pen @param {Geometry} geometry @param {Candidate} one */
function _candidate(pen, geometry, one) {
  _box(pen, geometry, [one.left, one.top, one.right, one.bottom], CANDIDATE, true);
  const corner = geometry.toStage(one.left, one.top);
  pen.fillStyle = CANDIDATE;
  pen.fillRect(corner.x, corner.y, LABEL, LABEL);
  pen.fillStyle = "#000";
  pen.font = "600 13px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(String(one.number), corner.x + LABEL / 2, corner.y + LABEL / 2 + 1);
}

/** @param {CanvasRenderingContext2D} pen @param {{x: number, y: number}} at */
function _cross(pen, at) {
  pen.beginPath();
  for (const [x, y] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    pen.moveTo(at.x + 4 * x, at.y + 4 * y);
    pen.lineTo(at.x + 14 * x, at.y + 14 * y);
  }
  _stroke(pen, "#fff");
}
