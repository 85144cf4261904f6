// @ts-check
/** Above the picture: the tool, the view, what stands behind the subject, and the zoom. */

import { h, iconButton, keyed } from "./dom.js";
import { Part, touches } from "./part.js";
import { keyFrames } from "./prompts.js";
import { Stage } from "./stage.js";
import { VIEWS, change, currentClip, state } from "./store.js";
import { t } from "./strings.js";

export const BACKDROPS = ["checker", "black", "white", "colour", "clip"];

/** @returns {import("./geometry.js").Geometry | null} */
export function stageGeometry() {
  const stage = document.querySelector("vm-stage");
  return stage instanceof Stage ? stage.geometry : null;
}

/** @param {"in" | "out" | "fit" | "one"} how */
export function zoom(how) {
  const geometry = stageGeometry();
  if (how === "fit") change({ zoom: 0 });
  else if (how === "one") geometry?.zoomTo(1);
  else geometry?.zoomBy(how === "in" ? Math.SQRT2 : Math.SQRT1_2);
}

/** The background after this one; clips only where there are some. */
export function nextBackdrop() {
  const at = BACKDROPS.indexOf(state.backdrop);
  change({ backdrop: BACKDROPS[(at + 1) % BACKDROPS.length] });
}

class Toolbar extends Part {
  build() {
    const group = (/** @type {string} */ name, /** @type {string} */ style, /** @type {Node[]} */ ...children) =>
      h("div", { role: "group", "aria-label": t(name), class: style }, ...children);
    this.tools = ["hand", "subject"].map((tool) =>
      iconButton(tool === "hand" ? "hand" : "target", t(`tool.${tool}`), () => change({ tool }), {
        key: tool === "hand" ? "V" : "S", "data-tool": tool,
      }),
    );
    this.views = VIEWS.map((view, index) =>
      h("button", { type: "button", "data-view": view, onclick: () => change({ view }), title: `${t(`view.${view}`)} (${index + 1})` }, t(`view.${view}`)),
    );
    this.swatches = BACKDROPS.map((name) =>
      h("button", {
        type: "button", class: `swatch swatch-${name}`, "data-backdrop": name, title: t(`backdrop.${name}`),
        "aria-label": t(`backdrop.${name}`), onclick: () => change({ backdrop: name }),
      }),
    );
    this.colour = h("input", {
      type: "color", "aria-label": t("backdrop.colour"), value: state.colour,
      oninput: () => change({ colour: this.colour?.value ?? state.colour, backdrop: "colour" }),
    });
    this.clips = h("select", {
      "aria-label": t("backdrop.clip.choose"),
      onchange: () => change({ backdropClip: this.clips?.value || null }),
    });
    this.append(
      group("tool", "segmented", ...this.tools),
      group("view", "segmented views", ...this.views),
      group("backdrop", "swatches", ...this.swatches, this.colour, this.clips),
      group("zoom", "segmented zoom",
        iconButton("minus", t("zoom.out"), () => zoom("out"), { key: "-" }),
        (this.fit = h("button", { type: "button", title: `${t("zoom.fit")} (0)`, onclick: () => zoom("fit") }, t("zoom.fit"))),
        (this.one = h("button", { type: "button", title: "1:1 (Z)", onclick: () => zoom("one") }, "1:1")),
        iconButton("plus", t("zoom.in"), () => zoom("in"), { key: "+" })),
    );
  }

  /** @param {Set<import("./part.js").Key> | null} changed */
  update(changed) {
    const press = (/** @type {Element[] | undefined} */ buttons, /** @type {string} */ name, /** @type {string} */ value) =>
      buttons?.forEach((one) => one.setAttribute("aria-pressed", String(one.getAttribute(name) === value)));
    press(this.tools, "data-tool", state.tool);
    press(this.views, "data-view", state.view);
    press(this.swatches, "data-backdrop", state.backdrop);
    const clip = currentClip();
    const subject = this.views?.[6];
    if (subject) {
      const keyed = clip?.kind === "picture" ? keyFrames().length > 0 : keyFrames().includes(state.frame);
      subject.classList.toggle("quiet", !keyed);
      subject.title = keyed ? `${t("view.subject")} (7)` : t("view.subject.none");
    }
    if (this.colour) {
      this.colour.hidden = state.backdrop !== "colour";
      if (this.colour.value !== state.colour) this.colour.value = state.colour;
    }
    if (touches(changed, "clips", "backdrop", "backdropClip", "clip")) this._clips();
    this.fit?.setAttribute("aria-pressed", String(state.zoom === 0));
    this.one?.setAttribute("aria-pressed", String(state.zoom === 1));
  }

  _clips() {
    if (!this.clips) return;
    this.clips.hidden = state.backdrop !== "clip";
    const items = [{ id: "", name: t("backdrop.clip.none") }, ...[...state.clips.values()].filter((clip) => clip.state === "ready")];
    keyed(this.clips, items, (clip) => clip.id, () => h("option"), (option, clip) => {
      option.value = clip.id;
      option.textContent = clip.name;
    });
    this.clips.value = state.backdropClip ?? "";
  }
}

customElements.define("vm-toolbar", Toolbar);
