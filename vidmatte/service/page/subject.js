// @ts-check
/** The panel of the subject: candidates, prompts and their frames, undo. */

import { getJson, lineOf } from "./api.js";
import { h, iconButton, keyed } from "./dom.js";
import { viewSettings } from "./frames.js";
import { say } from "./messages.js";
import { Part, panel, touches } from "./part.js";
import { addPrompt, canRedo, canUndo, promptsHere, redo, removePrompt, setPrompts, undo } from "./prompts.js";
import { change, currentClip, goTo, state } from "./store.js";
import { t } from "./strings.js";

/** @typedef {import("./prompts.js").Prompt} Prompt */

/** @param {Prompt} prompt @returns {string} */
function _words(prompt) {
  const [x, y, r, b] = prompt.numbers;
  const text = t(`subject.${prompt.kind}`, { x, y, r, b, what: prompt.what });
  return `${prompt.name ? `${prompt.name}: ` : ""}${t(prompt.wanted ? "subject.keep" : "subject.not")} ${text}`;
}

/** Ask which subjects the network sees on the frame in view. */
export async function findCandidates() {
  const clip = currentClip();
  if (!clip) return;
  const frame = state.frame;
  const settings = viewSettings();
  delete settings.subject;
  delete settings.only;
  try {
    const words = new URLSearchParams({ settings: JSON.stringify(settings) });
    const { candidates } = await getJson(`clips/${clip.id}/frames/${frame}/candidates?${words}`);
    if (state.clip !== clip.id || state.frame !== frame) return;
    change({ candidates, tool: "subject" });
    if (!candidates.length) say(t("subject.candidates.none"));
  } catch (error) {
    say(lineOf(error), "error");
  }
}

class Subject extends Part {
  build() {
    this.count = h("span", { class: "badge" });
    this.start = h("button", { type: "button", onclick: () => change({ tool: state.tool === "subject" ? "hand" : "subject" }) });
    this.find = h("button", { type: "button", onclick: findCandidates }, t("subject.candidates"));
    this.numbers = h("div", { class: "candidates", role: "group", "aria-label": t("subject.candidates") });
    this.text = h("input", { type: "text", class: "prompt-field", "aria-label": t("subject.type"), placeholder: t("subject.type.hint"), autocomplete: "off", spellcheck: "false" });
    this.list = h("ul", { class: "rows prompts", "aria-label": t("subject") });
    this.undoButton = iconButton("undo", t("subject.undo"), undo, { key: "Ctrl+Z" });
    this.redoButton = iconButton("redo", t("subject.redo"), redo, { key: "Ctrl+Shift+Z" });
    this.clear = h("button", { type: "button", class: "link", onclick: () => setPrompts([]) }, t("subject.clear"));
    const form = h("form", { class: "prompt-form", onsubmit: (/** @type {Event} */ event) => this._add(event) }, this.text,
      h("button", { type: "submit" }, t("subject.add")));
    this.append(panel("subject", true, [this.count],
      h("p", { class: "hint" }, t("subject.hint")), h("div", { class: "buttons" }, this.start, this.find, this.undoButton, this.redoButton), this.numbers, this.list, this.clear, form));
  }

  /** @param {Event} event */
  _add(event) {
    event.preventDefault();
    const text = this.text?.value.trim() ?? "";
    if (!text || !this.text) return;
    if (addPrompt(text)) this.text.value = "";
    else say(t("subject.bad", { text }), "error");
  }

  /** @param {Set<import("./part.js").Key> | null} changed */
  update(changed) {
    if (changed?.has("frame") && state.candidates.length) change({ candidates: [] });
    if (!touches(changed, "clip", "clips", "prompts", "tool", "frame", "candidates")) return;
    const prompts = promptsHere();
    const clip = currentClip();
    if (this.start) {
      this.start.textContent = t(state.tool === "subject" ? "subject.stop" : "subject.start");
      this.start.setAttribute("aria-pressed", String(state.tool === "subject"));
      this.start.disabled = !clip;
    }
    if (this.find) this.find.disabled = !clip;
    if (this.count) this.count.textContent = prompts.length ? String(prompts.length) : "";
    if (this.numbers) {
      keyed(this.numbers, state.candidates, (one) => String(one.number),
        (one) => h("button", { type: "button", class: "candidate", onclick: () => addPrompt(String(one.number)) }),
        (button, one) => (button.textContent = t("subject.candidate", { n: one.number })));
    }
    if (this.list) keyed(this.list, prompts, (prompt) => prompt.text, (prompt) => this._make(prompt), (row, prompt) => {
      row.classList.toggle("here", prompt.frame === state.frame);
    });
    if (this.undoButton) this.undoButton.disabled = !canUndo();
    if (this.redoButton) this.redoButton.disabled = !canRedo();
    if (this.clear) this.clear.hidden = !prompts.length;
  }

  /** @param {Prompt} prompt */
  _make(prompt) {
    const movie = currentClip()?.kind === "movie";
    return h("li", { class: `prompt ${prompt.wanted ? "keep" : "not"}` }, h("span", { class: "sign", "aria-hidden": "true" }, prompt.wanted ? "+" : "−"),
      h("span", { class: "prompt-words" }, _words(prompt)),
      movie ? h("button", { type: "button", class: "link number", "aria-label": t("subject.go", { n: prompt.frame }), onclick: () => goTo(prompt.frame) }, `f${prompt.frame}`) : null,
      iconButton("close", t("subject.remove", { text: prompt.text }), () => removePrompt(prompt.text)));
  }
}

customElements.define("vm-subject", Subject);
