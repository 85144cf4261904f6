// @ts-check
/** Below the picture: frame and timecode, to read and to type, and the buttons of a deck. */

import { h, icon, iconButton, setText } from "./dom.js";
import { Part } from "./part.js";
import { shuttle, togglePlay } from "./player.js";
import { currentClip, goTo, rangeOf, setRange, state } from "./store.js";
import { t } from "./strings.js";
import { frameOf, rateOf, timecodeOf } from "./timecode.js";

class Transport extends Part {
  build() {
    const step = (/** @type {string} */ shape, /** @type {string} */ name, /** @type {string} */ key, /** @type {() => void} */ action) =>
      iconButton(shape, t(name), action, { key });
    this.frameInput = this._field("frame", "number-field", () => String(state.frame));
    this.codeInput = this._field("timecode", "code-field", () => this._code());
    this.of = h("span", { class: "quiet-text" });
    this.play = step("play", "play.forward", "L", togglePlay);
    this.speed = h("output", { class: "speed" });
    this.inButton = h("button", { type: "button", class: "range-button", title: `${t("range.in")} (I)`, onclick: () => setRange({ first: state.frame }) }, icon("in"), h("span"));
    this.outButton = h("button", { type: "button", class: "range-button", title: `${t("range.out")} (O)`, onclick: () => setRange({ last: state.frame }) }, h("span"), icon("out"));
    this.clear = iconButton("close", t("range.clear"), () => setRange({ first: null, last: null }), { key: "X" });
    this.append(
      h("div", { class: "fields" }, h("label", {}, h("span", { class: "field-name" }, t("frame")), this.frameInput), this.of,
        h("label", {}, h("span", { class: "field-name visually-hidden" }, t("timecode")), this.codeInput)),
      h("div", { class: "deck", role: "group", "aria-label": t("transport") },
        step("first", "play.first", "Home", () => goTo(0)),
        step("back", "play.back", ",", () => goTo(state.frame - 1)),
        step("reverse", "play.reverse", "J", () => shuttle(-1)),
        this.play,
        step("forward", "play.next", ".", () => goTo(state.frame + 1)),
        step("last", "play.last", "End", () => goTo(Number.MAX_SAFE_INTEGER)),
        this.speed),
      h("div", { class: "range" }, this.inButton, this.outButton, this.clear),
    );
  }

  /** @param {string} name @param {string} style @param {() => string} value */
  _field(name, style, value) {
    const input = h("input", { type: "text", class: style, inputmode: "numeric", autocomplete: "off", spellcheck: "false", "data-field": name });
    const leave = () => {
      input.value = value();
      input.setAttribute("aria-invalid", "false");
    };
    input.addEventListener("focus", () => input.select());
    input.addEventListener("blur", leave);
    input.addEventListener("keydown", (event) => {
      const clip = currentClip();
      if (event.key === "Escape") input.blur();
      if (event.key !== "Enter") return;
      const frame = frameOf(input.value, state.frame, clip?.timecode, clip?.rate);
      input.setAttribute("aria-invalid", String(frame === null));
      if (frame === null) return;
      goTo(frame);
      leave();
      input.select();
    });
    return input;
  }

  _code() {
    const clip = currentClip();
    return timecodeOf(state.frame, clip?.timecode, clip?.rate);
  }

  update() {
    const clip = currentClip();
    this.hidden = clip?.kind !== "movie";
    if (!clip || this.hidden) return;
    const show = (/** @type {HTMLInputElement | undefined} */ input, /** @type {string} */ value) => {
      if (input && (document.activeElement !== input || state.speed)) input.value = value;
    };
    show(this.frameInput, String(state.frame));
    show(this.codeInput, this._code());
    if (this.of) setText(this.of, t("frame.of", { n: (clip.frames ?? 1) - 1 }));
    const label = t(state.speed ? "play.pause" : "play.forward");
    this.play?.replaceChildren(icon(state.speed ? "pause" : "play"));
    this.play?.setAttribute("aria-label", label);
    this.play?.setAttribute("title", `${label} (${state.speed ? "K" : "L"})`);
    if (this.speed) this.speed.value = state.speed ? `${state.speed}×` : `${Number(rateOf(clip.rate).toFixed(3))} fps`;
    const range = rangeOf(clip.id);
    const text = (/** @type {number | null} */ frame, /** @type {string} */ name) => `${t(name)} ${frame ?? "–"}`;
    const [first, last] = [this.inButton?.querySelector("span"), this.outButton?.querySelector("span")];
    if (first) setText(first, text(range.first, "range.in.short"));
    if (last) setText(last, text(range.last, "range.out.short"));
    if (this.clear) this.clear.disabled = range.first === null && range.last === null;
  }
}

customElements.define("vm-transport", Transport);
