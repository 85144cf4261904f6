// @ts-check
/** The panel of the matte: the model, and sliders whose effect is seen at once. */

import { lineOf, postJson } from "./api.js";
import { h, iconButton, keyed, sizeText } from "./dom.js";
import { say } from "./messages.js";
import { Part, panel } from "./part.js";
import { change, optionValue, setOption, state } from "./store.js";
import { modelUse } from "./strings-options.js";
import { t } from "./strings.js";

/**
 * @typedef {object} Scale
 * @property {string} name  of the option, or low and high of the threshold
 * @property {number} low
 * @property {number} high  of the slider; more can be typed
 * @property {number} step  of the number
 * @property {number} [power]  above 1: finer at the low end
 * @property {boolean} [ratio]  equal steps multiply
 * @property {string} [unit]
 */

/** The model that is two of the others: see `vidmatte models`. */
const AUTO = "auto", AUTO_PARTS = ["isnet", "rvm"];

/** @type {Scale[]} */
const SCALES = [
  { name: "low", low: 0, high: 1, step: 0.01 },
  { name: "high", low: 0, high: 1, step: 0.01 },
  { name: "gamma", low: 0.2, high: 5, step: 0.05, ratio: true },
  { name: "erode", low: 0, high: 20, step: 0.5, unit: "px", power: 2 },
  { name: "dilate", low: 0, high: 20, step: 0.5, unit: "px", power: 2 },
  { name: "feather", low: 0, high: 40, step: 0.5, unit: "px", power: 2 },
  { name: "remove_specks", low: 0, high: 20000, step: 1, unit: "area", power: 3 },
  { name: "fill_holes", low: 0, high: 20000, step: 1, unit: "area", power: 3 },
  { name: "smooth_strength", low: 0, high: 2, step: 0.05 },
  { name: "despill_strength", low: 0, high: 1, step: 0.01 },
];
const STEPS = 200;
export const SLIDER_OPTIONS = [
  "threshold", "gamma", "erode", "dilate", "feather", "remove_specks", "fill_holes", "smooth_strength",
  "despill", "despill_strength", "keep_largest", "invert", "model",
];

/** @returns {[number, number]} */
function _levels() {
  const value = optionValue("threshold");
  if (Array.isArray(value)) return [Number(value[0]), Number(value[1])];
  const [low, high] = String(value ?? "0,1").split(",").map(Number);
  return [low, high];
}

/** @param {Scale} scale @returns {number} */
function _value(scale) {
  if (scale.name === "low" || scale.name === "high") return _levels()[scale.name === "low" ? 0 : 1];
  return Number(optionValue(scale.name) ?? 0);
}

/** @param {Scale} scale @param {number} value */
function _set(scale, value) {
  if (scale.name !== "low" && scale.name !== "high") return setOption(scale.name, value);
  let [low, high] = _levels();
  // The levels need a distance: the other one gives way.
  if (scale.name === "low") [low, high] = [Math.min(value, 0.99), Math.max(high, Math.min(value, 0.99) + 0.01)];
  else [low, high] = [Math.min(low, Math.max(value, 0.01) - 0.01), Math.max(value, 0.01)];
  const round = (/** @type {number} */ one) => Number(one.toFixed(4));
  return setOption("threshold", low <= 0 && high >= 1 ? null : `${round(low)},${round(high)}`);
}

/** @param {Scale} scale @param {number} value @returns {number} the slider's position, 0 to STEPS */
function _position(scale, value) {
  const { low, high } = scale;
  const inside = Math.min(high, Math.max(low, value));
  if (scale.ratio) return (STEPS * Math.log(inside / low)) / Math.log(high / low);
  return STEPS * ((inside - low) / (high - low)) ** (1 / (scale.power ?? 1));
}

/** @param {Scale} scale @param {number} position @returns {number} */
function _atPosition(scale, position) {
  const { low, high, step } = scale;
  const share = position / STEPS;
  const value = scale.ratio ? low * (high / low) ** share : low + (high - low) * share ** (scale.power ?? 1);
  return Number((Math.round(value / step) * step).toFixed(4));
}

class Sliders extends Part {
  build() {
    this.model = h("select", { id: "model", onchange: () => this._setModel() });
    this.edge = h("select", { id: "model-edge", onchange: () => this._setModel() });
    this.facts = h("p", { class: "hint" });
    this.fetch = h("div", { class: "fetch" });
    this.rows = new Map(SCALES.map((scale) => [scale, this._row(scale)]));
    const rows = [...this.rows.values()].map((row) => row.element);
    this.despill = h("select", { id: "despill", onchange: () => setOption("despill", this.despill?.value || null) },
      h("option", { value: "" }, t("off")), ...["green", "blue", "red"].map((one) => h("option", { value: one }, t(one))));
    this.switches = ["keep_largest", "invert"].map((name) => h("input", { type: "checkbox", "data-option": name,
      onchange: (/** @type {Event} */ event) => setOption(name, /** @type {HTMLInputElement} */ (event.target).checked) }));
    this.reset = h("button", { type: "button", class: "link", onclick: () => this._reset() }, t("slider.reset.all"));
    const last = /** @type {HTMLElement} */ (rows.pop());
    this.append(panel("matte", true, [],
      h("div", { class: "pair" }, h("label", { class: "stack" }, h("span", {}, t("model")), this.model),
        h("label", { class: "stack" }, h("span", {}, t("model.edge")), this.edge)),
      this.facts, this.fetch, ...rows,
      h("label", { class: "row" }, h("span", {}, t("slider.despill")), this.despill), last,
      ...this.switches.map((box) => h("label", { class: "check" }, box, t(`slider.${box.getAttribute("data-option")}`))), this.reset));
  }

  /** @param {Scale} scale */
  _row(scale) {
    const name = t(`slider.${scale.name}`);
    const range = h("input", { type: "range", min: 0, max: STEPS, step: 1, "aria-label": name, "data-slider": scale.name });
    const number = h("input", { type: "number", step: scale.step, min: scale.name === "gamma" ? 0.05 : 0, "aria-label": `${name}${scale.unit ? ` (${t(`unit.${scale.unit}`)})` : ""}`, "data-number": scale.name });
    const original = () => (scale.name === "high" || scale.name === "gamma" ? 1 : scale.name.endsWith("strength") ? 1 : 0);
    const back = iconButton("close", t("slider.reset", { name }), () => _set(scale, original()), { class: "icon-button small" });
    range.addEventListener("input", () => _set(scale, _atPosition(scale, Number(range.value))));
    range.addEventListener("dblclick", () => _set(scale, original()));
    number.addEventListener("input", () => {
      const value = Number(number.value);
      if (number.value !== "" && Number.isFinite(value)) _set(scale, value);
    });
    number.addEventListener("change", () => this.update());
    const element = h("div", { class: "slider" }, h("span", { class: "slider-name" }, name), range, number, h("span", { class: "unit" }, scale.unit ? t(`unit.${scale.unit}`) : ""), back);
    return { element, range, number, back, original };
  }

  _reset() {
    const settings = { ...state.settings };
    for (const name of SLIDER_OPTIONS) if (name !== "model") delete settings[name];
    change({ settings });
  }

  _setModel() {
    const [first, second] = [this.model?.value ?? "", this.edge?.value ?? ""];
    setOption("model", second && second !== first && first !== AUTO ? `${first}+${second}` : first);
  }

  update() {
    for (const [scale, row] of this.rows ?? []) {
      const value = _value(scale);
      const position = String(Math.round(_position(scale, value)));
      if (Math.abs(_atPosition(scale, Number(row.range.value)) - value) > 1e-6) row.range.value = position;
      if (document.activeElement !== row.number) row.number.value = String(value);
      row.range.setAttribute("aria-valuetext", `${value} ${scale.unit ? t(`unit.${scale.unit}`) : ""}`.trim());
      row.back.classList.toggle("unused", value === row.original());
      row.back.disabled = value === row.original();
      const idle = (scale.name === "despill_strength" && !optionValue("despill")) || (scale.name === "smooth_strength" && optionValue("smooth") === "off");
      row.range.disabled = idle;
      row.number.disabled = idle;
    }
    if (this.despill) this.despill.value = optionValue("despill") ?? "";
    for (const box of this.switches ?? []) box.checked = Boolean(optionValue(box.getAttribute("data-option") ?? ""));
    if (this.reset) this.reset.hidden = !SLIDER_OPTIONS.some((name) => name !== "model" && name in state.settings);
    this._showModel();
  }

  _showModel() {
    const [first, second = ""] = String(optionValue("model") ?? "").split("+");
    const chroma = { name: "chroma", description: t("model.chroma"), fetched: true, licence: "", bytes: 0, commercial: true };
    const list = [...state.models, chroma];
    const known = list.some((one) => one.name === first) || !first ? list : [{ ...chroma, name: first, description: "" }, ...list];
    const fill = (/** @type {HTMLSelectElement} */ select, /** @type {import("./types.js").Model[]} */ models) =>
      keyed(select, models, (one) => one.name, () => h("option"), (option, one) => {
        const use = one.name === "chroma" ? t("model.key") : one.name === AUTO ? t("model.auto") : modelUse(one);
        option.value = one.name;
        option.textContent = one.name ? `${one.name}${use ? ` · ${use}` : ""}` : t("model.edge.none");
      });
    if (!this.model || !this.edge) return;
    fill(this.model, [...known, ...(first === AUTO ? [] : [{ ...chroma, name: AUTO }])]);
    this.edge.disabled = first === AUTO;
    fill(this.edge, [{ ...chroma, name: "" }, ...list]);
    this.model.value = first;
    this.edge.value = second;
    this._showFacts(first === AUTO ? AUTO_PARTS : [first, second]);
  }

  /** @param {string[]} names */
  _showFacts(names) {
    const models = state.models.filter((one) => names.includes(one.name));
    const missing = models.find((one) => !one.fetched);
    if (this.facts) {
      const words = models.filter((one) => one.licence).map((one) => t("model.licence", { licence: one.licence }));
      if (missing) words.push(t("model.missing", { size: sizeText(missing.bytes) }));
      this.facts.textContent = [...new Set(words)].join(" ");
    }
    const key = missing ? [missing.name, missing.fetching, missing.error, state.language].join() : "";
    if (!this.fetch) return;
    if (this.fetch.dataset.of !== key) {
      this.fetch.dataset.of = key;
      this.fetch.replaceChildren(...(missing ? this._fetchControls(missing) : []));
    }
    const words = this.fetch.querySelector(".fetching");
    if (missing && words) {
      const share = Math.round((100 * (missing.done ?? 0)) / Math.max(1, missing.bytes));
      words.textContent = t("model.fetching", { name: missing.name, share });
    }
  }

  /** @param {import("./types.js").Model} model @returns {Node[]} */
  _fetchControls(model) {
    if (model.fetching) return [h("span", { class: "fetching", role: "status" })];
    const accept = h("input", { type: "checkbox" });
    const needs = Boolean(model.needs_acceptance);
    const button = h("button", { type: "button", disabled: needs, onclick: async () => {
      try {
        await postJson(`models/${encodeURIComponent(model.name)}/fetch`, { accept_licence: needs ? model.name : null });
        change({ models: state.models.map((one) => (one.name === model.name ? { ...one, fetching: true, error: null, done: 0 } : one)) });
      } catch (error) {
        say(lineOf(error), "error");
      }
    } }, t("model.fetch", { name: model.name, size: sizeText(model.bytes) }));
    accept.addEventListener("change", () => (button.disabled = !accept.checked));
    const failed = model.error ? h("p", { class: "fault-line" }, t("model.failed", { name: model.name, error: model.error })) : null;
    const consent = needs ? h("label", { class: "check" }, accept, t("model.licence.accept", { licence: model.licence })) : null;
    return /** @type {Node[]} */ ([failed, consent, button].filter(Boolean));
  }
}

customElements.define("vm-sliders", Sliders);
