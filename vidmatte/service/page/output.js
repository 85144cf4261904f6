// @ts-check
/** The panel of the result: presets, format and what it is good for, extras, size and background. */

import { h, keyed } from "./dom.js";
import { Part, panel } from "./part.js";
import { change, chosenClips, currentClip, setOption, setOutput, state } from "./store.js";
import { formatFacts, formatUse } from "./strings-options.js";
import { t } from "./strings.js";

/** @typedef {import("./types.js").Preset} Preset */

const BACKGROUNDS = { white: "#ffffff", blue: "#438edb", red: "#d92b2b", checker: "checker", blur: "blur:20" };
/** ID photos: mm at 300 dots an inch. */
const SIZES = ["35x45mm@300", "25x35mm@300", "35x49mm@300", "33x48mm@300", "51x51mm@300", "600x800", "1000x1000"];
const CROPS = { subject: "subject", margin: "subject:5%" };
const TIMELINES = ["fcpxml", "xml", "edl", "otio"];
/** Output without its parts of a preset. @type {import("./types.js").Output} */
const PLAIN = { format: null, extras: [], background: null, timeline: null };

/** @param {Preset} preset Take over a preset; what another preset has set is undone. */
export function applyPreset(preset) {
  const settings = { ...state.settings };
  for (const other of state.presets) for (const name of Object.keys(other.settings)) delete settings[name];
  const output = { ...PLAIN, ...preset.output };
  change({ settings: { ...settings, ...preset.settings }, output, preset: preset.name });
  _showBehind(output.background);
}

/** The viewer shows the cut-out over what the result will have behind it. @param {string | null} background */
function _showBehind(background) {
  if (!background) change({ backdrop: "checker" });
  else if (background === "#ffffff") change({ backdrop: "white" });
  else if (["white", "black", "checker"].includes(background)) change({ backdrop: background });
  else if (background.startsWith("#")) change({ backdrop: "colour", colour: background });
  else if (background.startsWith("clip:")) change({ backdrop: "clip", backdropClip: background.slice(5) });
}

/** @returns {boolean} whether the preset's own values are still set */
function _isPreset() {
  const preset = state.presets.find((one) => one.name === state.preset);
  if (!preset) return false;
  const output = { ...PLAIN, ...preset.output };
  const same = (/** @type {any} */ a, /** @type {any} */ b) => JSON.stringify(a) === JSON.stringify(b);
  return Object.entries(preset.settings).every(([name, value]) => same(state.settings[name], value)) &&
    Object.entries(output).every(([name, value]) => same(Object(state.output)[name], value));
}

class OutputPanel extends Part {
  build() {
    this.presets = h("div", { class: "presets", role: "group", "aria-label": t("preset") });
    this.format = h("select", { onchange: () => setOutput({ format: this.format?.value || null }) });
    this.use = h("p", { class: "hint use" });
    this.extras = ["matte", "foreground", "comp"].map((name) => h("input", { type: "checkbox", value: name, onchange: () => this._setExtras() }));
    this.timeline = h("select", { onchange: () => setOutput({ timeline: this.timeline?.value || null }) },
      h("option", { value: "" }, t("timeline.none")), ...TIMELINES.map((one) => h("option", { value: one }, `.${one}`)));
    this.behind = h("select", { "data-behind": "", onchange: () => this._setBehind() }, h("option", { value: "" }, t("behind.none")),
      ...Object.keys(BACKGROUNDS).map((one) => h("option", { value: one }, t(`behind.${one}`))),
      h("option", { value: "colour" }, t("behind.colour")), h("option", { value: "clip" }, t("behind.clip")));
    this.colour = h("input", { type: "color", value: "#3a7d44", "aria-label": t("behind.colour"), oninput: () => this._background(this.colour?.value ?? "") });
    this.clip = h("select", { "aria-label": t("behind.clip"), onchange: () => this._background(`clip:${this.clip?.value}`) });
    this.size = h("select", { onchange: () => this._setSize() }, h("option", { value: "" }, t("size.none")),
      ...SIZES.map((one) => h("option", { value: one }, one.replace("@300", " · 300 dpi"))), h("option", { value: "own" }, t("size.own")));
    this.ownSize = h("input", { type: "text", "aria-label": t("size.text"), placeholder: "600x800", onchange: () => setOption("size", this.ownSize?.value.trim() || null) });
    this.crop = h("select", { onchange: () => setOption("crop", Object(CROPS)[this.crop?.value ?? ""] ?? null) }, h("option", { value: "" }, t("crop.none")),
      ...Object.keys(CROPS).map((one) => h("option", { value: one }, t(`crop.${one}`))));
    const row = (/** @type {string} */ name, /** @type {Node[]} */ ...controls) => h("div", { class: "row" },
      h("label", { class: "row-name" }, h("span", {}, t(name)), controls[0]), ...controls.slice(1));
    this.append(panel("output", true, [],
      this.presets, row("format", this.format), this.use,
      (this.stills = h("div", { class: "stills" }, row("size", this.size, this.ownSize), row("crop", this.crop), h("p", { class: "hint" }, t("size.hint")))),
      row("behind", this.behind, this.colour, this.clip),
      (this.movies = h("div", {}, h("div", { class: "extras", role: "group", "aria-label": t("extras") }, h("span", {}, t("extras")), h("div", {}, ...this.extras.map((box) =>
        h("label", { class: "check" }, box, t(`extras.${box.value}`))))), row("timeline", this.timeline)))));
  }

  _setExtras() {
    setOutput({ extras: (this.extras ?? []).filter((box) => box.checked).map((box) => box.value) });
  }

  _setBehind() {
    const kind = this.behind?.value ?? "";
    if (kind === "colour") this._background(this.colour?.value ?? "#3a7d44");
    else if (kind === "clip") {
      const first = [...state.clips.values()].find((clip) => clip.state === "ready" && clip.id !== state.clip) ?? currentClip();
      this._background(first ? `clip:${first.id}` : null);
    } else this._background(Object(BACKGROUNDS)[kind] ?? null);
  }

  /** @param {string | null} background */
  _background(background) {
    setOutput({ background });
    _showBehind(background);
  }

  _setSize() {
    const size = this.size?.value ?? "";
    if (size !== "own") setOption("size", size || null);
    else {
      setOption("size", this.ownSize?.value || "600x800");
      this.owning = true;
      this.update();
      this.ownSize?.focus();
    }
  }

  update() {
    const clips = chosenClips();
    const anyStill = clips.some((clip) => clip.kind === "picture");
    const anyMovie = clips.some((clip) => clip.kind === "movie");
    if (this.presets) keyed(this.presets, state.presets, (one) => one.name, (one) => h("button", { type: "button", "data-preset": one.name, onclick: () => applyPreset(one) }), (button, one) => {
      const on = one.name === state.preset;
      button.textContent = one.title[state.language === "zh" ? "zh" : "en"] ?? one.title.en;
      button.setAttribute("aria-pressed", String(on));
      button.classList.toggle("changed", on && !_isPreset());
      button.title = on && !_isPreset() ? t("preset.changed") : "";
      button.classList.toggle("quiet", (one.for === "movie" && !anyMovie && anyStill) || (one.for === "picture" && !anyStill && anyMovie));
    });
    this._formats();
    if (this.stills) this.stills.hidden = !anyStill;
    if (this.movies) this.movies.hidden = anyStill && !anyMovie;
    for (const box of this.extras ?? []) box.checked = state.output.extras.includes(box.value);
    if (this.timeline) this.timeline.value = state.output.timeline ?? "";
    this._behind();
    this._sizes();
  }

  _formats() {
    const select = this.format;
    if (!select) return;
    const kinds = ["movie", "sequence", "still"];
    if (select.dataset.of !== `${state.formats.length}${state.language}`) {
      select.dataset.of = `${state.formats.length}${state.language}`;
      select.replaceChildren(h("option", { value: "" }, t("format.auto")), ...kinds.map((kind) => h("optgroup", { label: t(`format.${kind}`) },
        ...state.formats.filter((one) => one.kind === kind).map((one) => h("option", { value: one.name, disabled: Boolean(one.missing), title: one.missing }, `${one.name}  ${one.suffixes.join(" ")}`)))));
    }
    select.value = state.output.format ?? "";
    const format = state.formats.find((one) => one.name === state.output.format);
    if (this.use) this.use.textContent = format ? `${formatUse(format)}. ${formatFacts(format.depth)}; ${format.alpha ? t("format.alpha", { alpha: formatFacts(format.alpha) ?? "" }) : t("format.opaque")}` : t("format.auto.use");
  }

  _behind() {
    const background = state.output.background;
    const known = Object.keys(BACKGROUNDS).find((one) => Object(BACKGROUNDS)[one] === background);
    const kind = !background ? "" : background.startsWith("clip:") ? "clip" : (known ?? "colour");
    if (this.behind) this.behind.value = kind;
    if (this.colour) {
      this.colour.hidden = kind !== "colour";
      if (kind === "colour" && background?.startsWith("#")) this.colour.value = background;
    }
    if (!this.clip) return;
    this.clip.hidden = kind !== "clip";
    keyed(this.clip, [...state.clips.values()].filter((clip) => clip.state === "ready"), (clip) => clip.id, () => h("option"), (option, clip) => {
      option.value = clip.id;
      option.textContent = clip.name;
    });
    if (kind === "clip") this.clip.value = background?.slice(5) ?? "";
  }

  _sizes() {
    const size = state.settings.size ?? "";
    const own = size !== "" && (!SIZES.includes(size) || this.owning === true);
    if (!own) this.owning = false;
    if (this.size) this.size.value = own ? "own" : size;
    if (this.ownSize) {
      this.ownSize.hidden = !own;
      if (document.activeElement !== this.ownSize) this.ownSize.value = size;
    }
    const crop = state.settings.crop ?? "";
    if (this.crop) this.crop.value = Object.keys(CROPS).find((one) => Object(CROPS)[one] === crop) ?? "";
  }
}

customElements.define("vm-output", OutputPanel);
