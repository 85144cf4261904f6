// @ts-check
/** The subject's prompts: texts as --subject takes them, such as "!640,300@f12". */

import { change, currentClip, state } from "./store.js";
import { frameOf } from "./timecode.js";

/**
 * @typedef {object} Prompt
 * @property {string} text
 * @property {boolean} wanted
 * @property {string} name  of one of several subjects, "" otherwise
 * @property {"point" | "box" | "rule" | "number"} kind
 * @property {number[]} numbers  pixels of the clip: x, y or left, top, right, bottom
 * @property {string} what  without sign, name and time
 * @property {number} frame
 */

const FORM = /^(!?)(?:([A-Za-z][\w-]+):)?([^@]+)(?:@(.+))?$/;
const RULES = ["largest", "centre", "person", "all"];

/** @param {string} text @returns {Prompt | null} null for a text that is no prompt */
export function parsePrompt(text) {
  const match = FORM.exec(text.trim());
  const clip = currentClip();
  if (!match) return null;
  const [, sign, name = "", what, at] = match;
  const numbers = what.split(",").map(Number);
  const known = numbers.every(Number.isFinite);
  /** @type {Prompt["kind"] | null} */
  let kind = null;
  if (RULES.includes(what)) kind = "rule";
  else if (known && numbers.length === 1 && numbers[0] >= 1) kind = "number";
  else if (known && numbers.length === 2) kind = "point";
  else if (known && numbers.length === 4) kind = "box";
  const seconds = at && /^\d+(\.\d+)?$/.test(at) ? `${at}s` : at;
  const frame = at ? frameOf(seconds ?? "", 0, clip?.timecode, clip?.rate) : 0;
  if (!kind || frame === null) return null;
  return { text: text.trim(), wanted: !sign, name, kind, numbers: known ? numbers : [], what, frame };
}

/** @returns {Prompt[]} of the clip in view */
export function promptsHere() {
  const texts = state.clip ? (state.prompts[state.clip] ?? []) : [];
  return /** @type {Prompt[]} */ (texts.map(parsePrompt).filter(Boolean));
}

/** @returns {number[]} the frames that have prompts, in order */
export function keyFrames() {
  return [...new Set(promptsHere().map((prompt) => prompt.frame))].sort((a, b) => a - b);
}

/** @type {Record<string, string[][]>} */
const undos = {};
/** @type {Record<string, string[][]>} */
const redos = {};

/** @param {string[]} texts */
function _set(texts) {
  if (state.clip) change({ prompts: { ...state.prompts, [state.clip]: texts } });
}

/** @param {string[]} texts the prompts of the clip in view from now on; can be undone */
export function setPrompts(texts) {
  const id = state.clip;
  if (!id) return;
  (undos[id] ??= []).push(state.prompts[id] ?? []);
  redos[id] = [];
  _set(texts);
}

/** @param {string} text @returns {boolean} false where it is no prompt; without a time it is for the frame in view */
export function addPrompt(text) {
  const id = state.clip;
  const clip = currentClip();
  const words = text.trim();
  const full = words.includes("@") || clip?.kind === "picture" ? words : `${words}@f${state.frame}`;
  if (!id || !parsePrompt(full)) return false;
  const there = state.prompts[id] ?? [];
  if (!there.includes(full)) setPrompts([...there, full]);
  return true;
}

/** @param {string} text */
export function removePrompt(text) {
  const id = state.clip;
  if (id) setPrompts((state.prompts[id] ?? []).filter((one) => one !== text));
}

export const canUndo = () => Boolean(state.clip && undos[state.clip]?.length);
export const canRedo = () => Boolean(state.clip && redos[state.clip]?.length);

export function undo() {
  const id = state.clip;
  const last = id ? undos[id]?.pop() : undefined;
  if (!id || !last) return;
  (redos[id] ??= []).push(state.prompts[id] ?? []);
  _set(last);
}

export function redo() {
  const id = state.clip;
  const next = id ? redos[id]?.pop() : undefined;
  if (!id || !next) return;
  (undos[id] ??= []).push(state.prompts[id] ?? []);
  _set(next);
}
