// @ts-check
/** Where the picture lies in the stage: between pixels of the clip and CSS pixels of the stage. */

import { change, currentClip, state } from "./store.js";

const MOST = 16;
const LEAST = 0.05;
/** Small pictures are not blown up to more than this when they are fitted. */
const FIT_MOST = 4;

/** The picture's place: one clip's pixel is `scale` CSS pixels; `x`, `y` is its top left corner. */
export class Geometry {
  constructor() {
    this.width = 1;
    this.height = 1;
    /** The middle of the stage, as a share of the picture. */
    this.centre = { x: 0.5, y: 0.5 };
  }

  get size() {
    const clip = currentClip();
    return { width: clip?.width ?? 16, height: clip?.height ?? 9 };
  }

  get fitScale() {
    const { width, height } = this.size;
    return Math.min(this.width / width, this.height / height, FIT_MOST);
  }

  get scale() {
    return state.zoom ? state.zoom / devicePixelRatio : this.fitScale;
  }

  /** @returns {{x: number, y: number, width: number, height: number}} the picture in CSS pixels */
  get place() {
    const { width, height } = this.size;
    const [w, h] = [width * this.scale, height * this.scale];
    const at = (/** @type {number} */ room, /** @type {number} */ length, /** @type {number} */ share) =>
      length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, room / 2 - share * length));
    return { x: at(this.width, w, this.centre.x), y: at(this.height, h, this.centre.y), width: w, height: h };
  }

  /** @param {number} x @param {number} y CSS pixels of the stage @returns {{x: number, y: number}} pixels of the clip */
  toClip(x, y) {
    const place = this.place;
    return { x: (x - place.x) / this.scale, y: (y - place.y) / this.scale };
  }

  /** @param {number} x @param {number} y pixels of the clip @returns {{x: number, y: number}} CSS pixels of the stage */
  toStage(x, y) {
    const place = this.place;
    return { x: place.x + x * this.scale, y: place.y + y * this.scale };
  }

  /** @param {number} dx @param {number} dy CSS pixels */
  pan(dx, dy) {
    const place = this.place;
    const clamp = (/** @type {number} */ value) => Math.min(1, Math.max(0, value));
    this.centre = {
      x: clamp((this.width / 2 - place.x - dx) / place.width),
      y: clamp((this.height / 2 - place.y - dy) / place.height),
    };
  }

  /** Zoom by a factor so that what is under (x, y) stays there. @param {number} factor @param {number} [x] @param {number} [y] */
  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    this.zoomTo(this.scale * devicePixelRatio * factor, x, y);
  }

  /** @param {number} zoom screen pixels per pixel of the clip @param {number} [x] @param {number} [y] */
  zoomTo(zoom, x = this.width / 2, y = this.height / 2) {
    const under = this.toClip(x, y);
    const scale = Math.min(MOST, Math.max(LEAST, zoom)) / devicePixelRatio;
    const { width, height } = this.size;
    this.centre = {
      x: (under.x + (this.width / 2 - x) / scale) / width,
      y: (under.y + (this.height / 2 - y) / scale) / height,
    };
    change({ zoom: scale * devicePixelRatio });
  }
}
