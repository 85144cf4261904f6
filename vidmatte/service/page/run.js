// @ts-check
/** The bar that starts the run, with the command line that does the same. */

import { RefusedError, isAbort, lineOf, postJson } from "./api.js";
import { debounce, h, icon, iconButton, setText } from "./dom.js";
import { jobBody, runJobs } from "./jobs.js";
import { say } from "./messages.js";
import { Part, touches } from "./part.js";
import { change, chosenClips, currentClip, state } from "./store.js";
import { t } from "./strings.js";

/** Queue what is chosen. */
export function run() {
  return runJobs(chosenClips());
}

class RunBar extends Part {
  constructor() {
    super();
    this.stop = new AbortController();
    this.soon = debounce(() => this._ask(), 200);
  }

  build() {
    this.words = h("code", { class: "command-words", tabindex: "0", role: "textbox", "aria-readonly": "true", "aria-label": t("command") });
    this.copy = iconButton("copy", t("command.copy"), () => this._copy());
    this.fault = h("p", { class: "fault-line", role: "status" });
    this.button = h("button", { type: "button", class: "primary", title: "Ctrl+Enter", onclick: run });
    this.append(h("div", { class: "command" }, this.words, this.copy), this.fault, this.button);
  }

  async _copy() {
    try {
      await navigator.clipboard.writeText(state.command);
      say(t("command.copied"));
    } catch (error) {
      // Without https the clipboard is not offered: select it, so that Ctrl+C copies it.
      if (this.words) getSelection()?.selectAllChildren(this.words);
      if (!(error instanceof TypeError) && !(error instanceof DOMException)) throw error;
    }
  }

  async _ask() {
    const [current, chosen] = [currentClip(), chosenClips()];
    const clip = current && chosen.includes(current) ? current : chosen[0];
    this.stop.abort();
    if (!clip) return change({ command: "", fault: "" });
    this.stop = new AbortController();
    try {
      const { command } = await postJson("command", jobBody(clip), this.stop.signal);
      return change({ command, fault: "" });
    } catch (error) {
      if (isAbort(error)) return undefined;
      // Only what the settings are to blame for; lost connections are reported elsewhere.
      return change({ fault: error instanceof RefusedError ? lineOf(error) : "" });
    }
  }

  /** @param {Set<import("./part.js").Key> | null} changed */
  update(changed) {
    if (touches(changed, "clip", "clips", "settings", "output", "prompts", "ranges", "selected", "options")) this.soon();
    const clips = chosenClips();
    if (this.words) {
      setText(this.words, state.command || t("command.none"));
      this.words.classList.toggle("stale", Boolean(state.fault));
    }
    if (this.copy) this.copy.disabled = !state.command;
    if (this.fault) {
      setText(this.fault, state.fault);
      this.fault.hidden = !state.fault;
    }
    if (!this.button) return;
    this.button.disabled = !clips.length || Boolean(state.fault);
    const label = clips.length > 1 ? t("run.many", { n: clips.length }) : clips.length ? t("run.one", { name: clips[0].name }) : t("run.none");
    this.button.replaceChildren(icon("play"), h("span", {}, label));
  }
}

customElements.define("vm-run", RunBar);
