// @ts-check
/** The picture: the frame in view, exactly that one, with what is drawn over it. */

import { isAbort, lineOf } from "./api.js";
import { debounce, h, setText } from "./dom.js";
import { Loader, frameUrl, heightFor } from "./frames.js";
import { Geometry } from "./geometry.js";
import { addGestures, addPoint } from "./gestures.js";
import { drawOverlay } from "./overlay.js";
import { Part, touches } from "./part.js";
import { promptsHere } from "./prompts.js";
import { change, currentClip, state } from "./store.js";
import { t } from "./strings.js";

/** @typedef {import("./types.js").Clip} Clip */
/** @typedef {{url: string, area: number[]}} Layer  area: left, top, width, height in the clip's pixels */
/** @typedef {{bitmap: ImageBitmap, area: number[]}} Drawn */

/** A request older than this gives way to a newer one; a younger one is worth showing. */
const PATIENCE_MS = 250;
const GRID = 64;

export class Stage extends Part {
  constructor() {
    super();
    this.loader = new Loader();
    this.geometry = new Geometry();
    /** @type {Layer[]} */
    this.wanted = [];
    /** @type {Drawn[]} */
    this.drawn = [];
    this.shown = "";
    /** @type {string | null} the clip whose picture is drawn */
    this.clipDrawn = null;
    this.begun = 0;
    this.busy = false;
    this.stop = new AbortController();
    /** @type {{x: number, y: number} | null} */
    this.cross = null;
    /** @type {number[] | null} */
    this.box = null;
    this.boxWanted = true;
    this.spaceHeld = false;
    this.soon = debounce(() => this.request(), 120);
    this.later = debounce(() => this._prefetch(), 150);
  }

  build() {
    this.canvas = h("canvas", { tabindex: "0", role: "application", class: "stage-canvas" });
    this.note = h("div", { class: "stage-note", role: "status", hidden: true });
    this.handle = h("div", { class: "wipe-handle", role: "slider", tabindex: "0", "aria-valuemin": 0, "aria-valuemax": 100 });
    this.share = h("div", { class: "stage-zoom", "aria-hidden": "true" });
    this.append(this.canvas, this.handle, this.share, this.note);
    addGestures(this, this.canvas);
    this._addWipe(this.handle);
    this.canvas.addEventListener("keydown", (event) => this._key(event));
    this.canvas.addEventListener("blur", () => this._moveCross(null));
    this.observer?.disconnect();
    this.observer = new ResizeObserver(() => {
      this.geometry.width = this.clientWidth;
      this.geometry.height = this.clientHeight;
      this.moved();
    });
    this.observer.observe(this);
  }

  /** @param {Set<import("./part.js").Key> | null} changed */
  update(changed) {
    if (touches(changed, "clip")) {
      this.geometry.centre = { x: 0.5, y: 0.5 };
      this.cross = null;
    }
    this.canvas?.setAttribute("aria-label", t("viewer.stage", { n: state.frame, view: t(`view.${state.view}`) }));
    this.handle?.setAttribute("aria-label", t("wipe.handle"));
    this.classList.toggle("choosing", state.tool === "subject");
    this.classList.toggle("zoomed", this.geometry.scale > this.geometry.fitScale * 1.001);
    this.request();
    this.paint();
  }

  /** The view has moved: draw, and fetch what is missing. */
  moved() {
    this.paint();
    this.soon();
  }

  /** @param {number[] | null} box @param {boolean} wanted */
  showBox(box, wanted) {
    this.box = box;
    this.boxWanted = wanted;
    this.paint();
  }

  /** @returns {Layer[]} what has to be loaded for the state */
  layers() {
    const clip = currentClip();
    if (!clip || !clip.width || !clip.height || !state.options.length) return [];
    const here = promptsHere().some((prompt) => clip.kind === "picture" || prompt.frame === state.frame);
    let views = [state.view];
    if (state.view === "wipe") views = ["source", "cutout"];
    if (state.view === "subject" && !here) views = ["overlay"];
    const needed = clip.height * this.geometry.scale * devicePixelRatio;
    const exact = state.zoom >= 1 || clip.height <= 240;
    if (needed <= 2160 || clip.height <= 2160) {
      const height = heightFor(clip, Math.min(needed, clip.height));
      const area = [0, 0, clip.width, clip.height];
      return views.map((view) => ({ url: frameUrl(clip, state.frame, view, { height, exact }), area }));
    }
    const crop = this._visible(clip);
    return views.map((view) => ({ url: frameUrl(clip, state.frame, view, { crop, exact }), area: crop }));
  }

  /** @param {Clip} clip @returns {number[]} the part in view, on a grid so that small moves find it loaded */
  _visible(clip) {
    const [first, last] = [this.geometry.toClip(0, 0), this.geometry.toClip(this.clientWidth, this.clientHeight)];
    const left = Math.max(0, Math.floor(first.x / GRID) * GRID);
    const top = Math.max(0, Math.floor(first.y / GRID) * GRID);
    const right = Math.min(clip.width ?? 0, Math.ceil(last.x / GRID) * GRID);
    const bottom = Math.min(clip.height ?? 0, Math.ceil(last.y / GRID) * GRID);
    return [left, top, Math.max(1, right - left), Math.max(1, bottom - top)];
  }

  /** Load and show what the state wants. At most one frame is asked for at a time. */
  request() {
    const layers = this.layers();
    const key = layers.map((layer) => layer.url).join(" ");
    if (key === this.wanted.map((layer) => layer.url).join(" ")) return;
    this.wanted = layers;
    if (this.busy) {
      if (performance.now() - this.begun > PATIENCE_MS) this.stop.abort();
      return;
    }
    this._work();
  }

  async _work() {
    this.busy = true;
    this.setAttribute("aria-busy", "true");
    while (this.wanted.map((layer) => layer.url).join(" ") !== this.shown) {
      const layers = this.wanted;
      this.stop = new AbortController();
      this.begun = performance.now();
      const slow = setTimeout(() => this._say(t(state.view === "source" ? "viewer.loading" : "viewer.computing")), 400);
      try {
        await this._load(layers);
        this._say("");
      } catch (error) {
        if (!isAbort(error)) {
          this.shown = layers.map((layer) => layer.url).join(" ");
          this._say(lineOf(error), true);
        }
      } finally {
        clearTimeout(slow);
      }
    }
    this.busy = false;
    this.removeAttribute("aria-busy");
    this.later();
  }

  /** @param {Layer[]} layers */
  async _load(layers) {
    const clip = state.clip;
    // A first look at a clip: its source is there long before its matte.
    if (this.clipDrawn !== clip && layers.length && !this.loader.at(layers[0].url)) this._firstLook(this.stop.signal);
    const pictures = await Promise.all(layers.map((layer) => this.loader.load(layer.url, this.stop.signal)));
    this.drawn = layers.map((layer, index) => ({ bitmap: pictures[index].bitmap, area: layer.area }));
    this.shown = layers.map((layer) => layer.url).join(" ");
    this.clipDrawn = clip;
    this.dataset.shown = this.shown;
    this.dataset.subject = pictures[0]?.subject ?? "";
    this.paint();
  }

  /** @param {AbortSignal} signal */
  _firstLook(signal) {
    const clip = currentClip();
    if (!clip || !clip.width || !clip.height) return;
    this.drawn = [];
    const area = [0, 0, clip.width, clip.height];
    this.loader.load(frameUrl(clip, state.frame, "source", { height: heightFor(clip, 540) }), signal).then(
      ({ bitmap }) => {
        if (this.clipDrawn === clip.id || state.clip !== clip.id) return;
        this.drawn = [{ bitmap, area }];
        this.paint();
      },
      () => {}, // the frame that is wanted reports what is wrong
    );
  }

  _prefetch() {
    const clip = currentClip();
    // The source alone: a matte of a frame that nobody looks at keeps one waiting that somebody does.
    if (!clip || clip.kind !== "movie" || this.busy || state.speed || state.view !== "source") return;
    for (const step of [1, -1]) {
      const frame = state.frame + step;
      if (frame < 0 || frame >= (clip.frames ?? 1)) continue;
      for (const layer of this.wanted) {
        this.loader.prefetch(layer.url.replace(`/frames/${state.frame}?`, `/frames/${frame}?`), this.stop.signal);
      }
    }
  }

  /** @param {string} text @param {boolean} [isFault] */
  _say(text, isFault = false) {
    if (!this.note) return;
    setText(this.note, text);
    this.note.classList.toggle("fault", isFault);
    this.note.hidden = !text;
  }

  paint() {
    if (this.frameAsked) return;
    this.frameAsked = requestAnimationFrame(() => {
      this.frameAsked = 0;
      this._paint();
    });
  }

  _paint() {
    const [canvas, handle] = [this.canvas, this.handle];
    const pen = canvas?.getContext("2d");
    if (!canvas || !handle || !pen) return;
    const ratio = devicePixelRatio;
    const [width, height] = [Math.round(this.clientWidth * ratio), Math.round(this.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.clientWidth, this.clientHeight);
    const place = this.geometry.place;
    const wiping = state.view === "wipe" && this.drawn.length === 2;
    handle.hidden = !wiping;
    if (this.share) setText(this.share, currentClip() ? `${Math.round(this.geometry.scale * ratio * 100)} %` : "");
    if (!currentClip()) return;
    const border = place.x + place.width * state.split;
    this.drawn.forEach((layer, index) => {
      pen.save();
      if (wiping) {
        pen.beginPath();
        if (index === 0) pen.rect(0, 0, border, this.clientHeight);
        else pen.rect(border, 0, this.clientWidth, this.clientHeight);
        pen.clip();
      }
      this._drawLayer(pen, layer);
      pen.restore();
    });
    if (wiping) {
      handle.style.left = `${border}px`;
      handle.setAttribute("aria-valuenow", String(Math.round(state.split * 100)));
    }
    drawOverlay(pen, this.geometry, this.cross, this.box, this.boxWanted);
  }

  /** @param {CanvasRenderingContext2D} pen @param {Drawn} layer */
  _drawLayer(pen, layer) {
    const [left, top, width, height] = layer.area;
    const first = this.geometry.toStage(left, top);
    const scale = this.geometry.scale;
    // From 2:1 on single pixels are to be seen.
    pen.imageSmoothingEnabled = state.zoom < 2;
    pen.imageSmoothingQuality = "high";
    const snap = (/** @type {number} */ value) => Math.round(value * devicePixelRatio) / devicePixelRatio;
    pen.drawImage(layer.bitmap, snap(first.x), snap(first.y), width * scale, height * scale);
  }

  /** @param {HTMLElement} handle */
  _addWipe(handle) {
    const set = (/** @type {number} */ split) => change({ split: Math.min(1, Math.max(0, split)) });
    handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const place = this.geometry.place;
      set((event.clientX - this.getBoundingClientRect().left - place.x) / place.width);
    });
    handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowRight: 0.02, ArrowDown: -0.02, ArrowUp: 0.02 }[event.key];
      if (step === undefined) return;
      set(state.split + step);
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** The subject by the keyboard: a cross that arrow keys move. @param {KeyboardEvent} event */
  _key(event) {
    if (state.tool !== "subject" || event.ctrlKey || event.metaKey) return;
    const { width, height } = this.geometry.size;
    const cross = this.cross ?? { x: Math.floor(width / 2), y: Math.floor(height / 2) };
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(width / 64));
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) {
      const clamp = (/** @type {number} */ value, /** @type {number} */ most) => Math.min(most - 1, Math.max(0, value));
      this._moveCross({ x: clamp(cross.x + way[0] * step, width), y: clamp(cross.y + way[1] * step, height) });
    } else if (event.key === "Enter" && this.cross) addPoint(this, cross.x, cross.y, !event.shiftKey);
    else if (event.key === "Escape" && this.cross) this._moveCross(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {{x: number, y: number} | null} cross */
  _moveCross(cross) {
    this.cross = cross;
    if (cross) this._say(t("subject.cursor", cross));
    else if (this.note && !this.note.classList.contains("fault")) this._say("");
    this.paint();
  }
}

customElements.define("vm-stage", Stage);
