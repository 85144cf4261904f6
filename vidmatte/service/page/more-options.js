// @ts-check
/** The panel of all further options, made from the service's list of them. */

import { h } from "./dom.js";
import { OF_STILLS } from "./jobs.js";
import { Part, panel, touches } from "./part.js";
import { SLIDER_OPTIONS } from "./sliders.js";
import { currentClip, optionValue, setOption, state } from "./store.js";
import { groupTitle, optionHelp, optionTitle } from "./strings-options.js";
import { t } from "./strings.js";

/** @typedef {import("./types.js").Option} Option */

/** Options with controls of their own elsewhere on the page. */
const ELSEWHERE = new Set([...SLIDER_OPTIONS, ...OF_STILLS, "subject", "in_point", "out_point", "format", "codec", "background", "checker", "timeline"]);

class MoreOptions extends Part {
  build() {
    this.find = h("input", { type: "search", "aria-label": t("more.find"), placeholder: t("more.find"), oninput: () => this._filter() });
    this.groups = h("div", { class: "option-groups" });
    this.none = h("p", { class: "hint", hidden: true }, t("more.none"));
    this.badge = h("span", { class: "badge" });
    this.append(panel("more", false, [this.badge], this.find, this.none, this.groups));
    /** @type {Map<string, (value: any) => void>} */
    this.show = new Map();
    if (state.options.length) this._make();
  }

  _make() {
    const options = state.options.filter((option) => !ELSEWHERE.has(option.name));
    const groups = [...new Set(options.map((option) => option.group))];
    this.groups?.replaceChildren(...groups.map((group) =>
      h("fieldset", {}, h("legend", {}, groupTitle(group)), ...options.filter((one) => one.group === group).map((one) => this._row(one)))));
  }

  /** @param {Option} option */
  _row(option) {
    const id = `option-${option.name}`;
    const help = h("p", { class: "hint", id: `${id}-help` }, optionHelp(option));
    const control = this._control(option, { id, "aria-describedby": `${id}-help`, "data-option": option.name });
    const label = h("label", { for: id }, optionTitle(option), " ", h("code", { class: "flag" }, option.flag));
    const words = `${option.name} ${option.flag} ${optionTitle(option)} ${optionHelp(option)}`.toLowerCase();
    return h("div", { class: `option kind-${option.kind}`, "data-words": words }, label, control, help);
  }

  /** @param {Option} option @param {Record<string, string>} props */
  _control(option, props) {
    if (option.kind === "bool") {
      const box = h("input", { type: "checkbox", ...props, onchange: () => setOption(option.name, box.checked) });
      this.show?.set(option.name, (value) => (box.checked = Boolean(value)));
      return box;
    }
    if (option.choices?.length) {
      const first = option.default === null ? [h("option", { value: "" }, t("more.default"))] : [];
      const select = h("select", { ...props, onchange: () => setOption(option.name, select.value || null) }, ...first,
        ...option.choices.map((one) => h("option", { value: one }, one)));
      this.show?.set(option.name, (value) => (select.value = value ?? ""));
      return select;
    }
    const isNumber = option.kind === "int" || option.kind === "float";
    const input = h("input", { type: isNumber ? "number" : "text", step: option.kind === "int" ? 1 : "any",
      min: option.low, max: option.high, placeholder: t("more.default"), autocomplete: "off", spellcheck: "false", ...props,
      onchange: () => setOption(option.name, this._read(option, input.value.trim())) });
    this.show?.set(option.name, (value) => (input.value = Array.isArray(value) ? value.join(" ") : String(value ?? "")));
    return input;
  }

  /** @param {Option} option @param {string} text @returns {any} */
  _read(option, text) {
    if (!text) return null;
    if (option.kind === "int" || option.kind === "float") return Number(text);
    return option.kind === "list" ? text.split(/\s+/) : text;
  }

  _filter() {
    const words = (this.find?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const row of this.querySelectorAll(".option")) {
      const fits = words.every((word) => row.getAttribute("data-words")?.includes(word));
      row.toggleAttribute("hidden", !fits);
      found += Number(fits);
    }
    for (const group of this.querySelectorAll("fieldset")) group.hidden = !group.querySelector(".option:not([hidden])");
    if (this.none) this.none.hidden = found > 0;
  }

  /** @param {Set<import("./part.js").Key> | null} changed */
  update(changed) {
    if (changed?.has("options")) this._make();
    if (!touches(changed, "options", "settings", "clip")) return;
    for (const [name, show] of this.show ?? []) {
      const control = this.querySelector(`#option-${name}`);
      if (control !== document.activeElement) show(optionValue(name));
      control?.closest(".option")?.classList.toggle("set", name in state.settings);
    }
    const set = [...(this.show?.keys() ?? [])].filter((name) => name in state.settings).length;
    if (this.badge) this.badge.textContent = set ? t("more.set", { n: set }) : "";
    this.toggleAttribute("data-movie", currentClip()?.kind === "movie");
  }
}

customElements.define("vm-options", MoreOptions);
