// @ts-check
/** The list of clips: dropping, choosing, selecting and deleting them, and the uploads that run. */

import { lineOf, remove } from "./api.js";
import { ask } from "./dialogs.js";
import { h, icon, iconButton, keyed, setText, sizeText } from "./dom.js";
import { say } from "./messages.js";
import { Part, touches } from "./part.js";
import { change, openClip, state } from "./store.js";
import { t } from "./strings.js";
import { showThumbnail } from "./thumbnails.js";
import { cancelUpload, upload } from "./tus.js";

/** @typedef {import("./types.js").Clip} Clip */
/** @typedef {import("./types.js").Upload} Upload */

/** @param {string[]} ids */
export async function deleteClips(ids) {
  const names = ids.map((id) => state.clips.get(id)?.name ?? "");
  const question = ids.length === 1 ? t("clips.delete.ask.one", { name: names[0] }) : t("clips.delete.ask", { n: ids.length });
  if (!ids.length || !(await ask(question, t("ask.delete")))) return;
  for (const id of ids) {
    try {
      await remove(`clips/${id}`);
      forgetClip(id);
    } catch (error) {
      say(lineOf(error), "error");
    }
  }
}

/** @param {string} id Take a clip that is gone out of the state. */
export function forgetClip(id) {
  const clips = new Map(state.clips);
  clips.delete(id);
  const without = (/** @type {Record<string, any>} */ table) => Object.fromEntries(Object.entries(table).filter(([one]) => one !== id));
  change({
    clips, selected: state.selected.filter((one) => one !== id), prompts: without(state.prompts),
    ranges: without(state.ranges), frames: without(state.frames),
    backdropClip: state.backdropClip === id ? null : state.backdropClip,
  });
  if (state.clip === id) {
    const [next] = clips.keys();
    if (next) openClip(next);
    else change({ clip: null, frame: 0 });
  }
}

class Clips extends Part {
  build() {
    this.picker = h("input", {
      type: "file", multiple: true, class: "visually-hidden", tabindex: "-1", "aria-hidden": "true", "data-picker": "",
      onchange: () => {
        upload(this.picker?.files ?? []);
        if (this.picker) this.picker.value = "";
      },
    });
    this.all = h("input", { type: "checkbox", onchange: () => this._selectAll() });
    this.count = h("span", { class: "quiet-text" });
    this.drop = iconButton("remove", t("clips.delete.many"), () => deleteClips([...state.selected]));
    this.uploads = h("ul", { class: "rows uploads", "aria-label": t("upload.list") });
    this.list = h("ul", { class: "rows clips-list", "aria-label": t("clips") });
    this.append(
      h("h2", {}, t("clips")),
      h("div", { class: "drop-zone" }, icon("upload"), h("p", {}, `${t("clips.drop")} `,
        h("button", { type: "button", class: "link", onclick: () => this.picker?.click() }, t("clips.choose"))),
        h("p", { class: "quiet-text" }, t("clips.hint")), this.picker),
      (this.bar = h("div", { class: "list-bar" }, h("label", { class: "check" }, this.all, t("clips.all")), this.count, this.drop)),
      this.uploads, this.list,
    );
  }

  _selectAll() {
    const ready = [...state.clips.values()].filter((clip) => clip.state === "ready").map((clip) => clip.id);
    change({ selected: this.all?.checked ? ready : [] });
  }

  /** @param {Set<import("./part.js").Key> | null} changed */
  update(changed) {
    if (touches(changed, "uploads") && this.uploads) {
      keyed(this.uploads, state.uploads, (one) => String(one.key), (one) => this._makeUpload(one), (row, one) => this._showUpload(row, one));
    }
    if (!touches(changed, "clips", "clip", "selected")) return;
    const clips = [...state.clips.values()];
    if (this.list) keyed(this.list, clips, (clip) => clip.id, (clip) => this._make(clip), (row, clip) => this._show(row, clip));
    const n = state.selected.length;
    if (this.all) {
      this.all.checked = n > 0 && n === clips.filter((clip) => clip.state === "ready").length;
      this.all.indeterminate = n > 0 && !this.all.checked;
    }
    if (this.bar) this.bar.hidden = clips.length < 2;
    if (this.count) setText(this.count, n ? t("clips.selected", { n }) : "");
    if (this.drop) this.drop.hidden = n === 0;
  }

  /** @param {Clip} clip */
  _make(clip) {
    const toggle = () => {
      const on = !state.selected.includes(clip.id);
      change({ selected: on ? [...state.selected, clip.id] : state.selected.filter((id) => id !== clip.id) });
    };
    return h("li", { class: "clip" },
      h("input", { type: "checkbox", "aria-label": t("clips.select", { name: clip.name }), onchange: toggle }),
      h("button", { type: "button", class: "clip-open", onclick: () => openClip(clip.id) },
        h("img", { alt: "", class: "thumb", width: "56", height: "36" }),
        h("span", { class: "clip-text" }, h("span", { class: "clip-name", title: clip.name }, clip.name), h("span", { class: "clip-facts quiet-text" }))),
      iconButton("remove", t("clips.delete", { name: clip.name }), () => deleteClips([clip.id])));
  }

  /** @param {HTMLElement} row @param {Clip} clip */
  _show(row, clip) {
    const [box, open, image, facts] = [
      row.querySelector("input"), row.querySelector(".clip-open"), row.querySelector("img"), row.querySelector(".clip-facts"),
    ];
    if (box) {
      box.checked = state.selected.includes(clip.id);
      box.disabled = clip.state !== "ready";
    }
    open?.setAttribute("aria-current", String(clip.id === state.clip));
    row.classList.toggle("failed", clip.state === "failed");
    if (image && clip.state === "ready" && !image.dataset.asked) {
      image.dataset.asked = "1";
      showThumbnail(image, `api/clips/${clip.id}/frames/0?view=source&height=72&format=jpeg`);
    }
    const words = [`${clip.width}×${clip.height}`];
    if (clip.kind === "movie") words.push(t("clips.frames", { n: clip.frames ?? "?" }));
    else words.push(sizeText(clip.bytes));
    let text = words.join(" · ");
    if (clip.state === "probing") text = t("clips.probing");
    if (clip.state === "failed") text = clip.error ?? "";
    if (facts instanceof HTMLElement) setText(facts, text);
  }

  /** @param {Upload} one */
  _makeUpload(one) {
    return h("li", { class: "upload" }, h("div", { class: "upload-text" }, h("span", { class: "clip-name" }, one.name),
      h("span", { class: "upload-state quiet-text" }), h("progress", { max: "1", "aria-label": t("upload.progress", { name: one.name }) })),
      iconButton("close", t("upload.cancel", { name: one.name }), () => cancelUpload(one.key)));
  }

  /** @param {HTMLElement} row @param {Upload} one */
  _showUpload(row, one) {
    const [bar, words] = [row.querySelector("progress"), row.querySelector(".upload-state")];
    const share = one.size ? one.sent / one.size : 0;
    if (bar) bar.value = share;
    const sent = `${Math.round(100 * share)} % · ${sizeText(one.size)}`;
    const more = one.state === "waiting" ? t("upload.waiting") : one.message;
    if (words instanceof HTMLElement) setText(words, more ? `${sent} · ${more}` : sent);
    row.classList.toggle("failed", one.state === "failed");
  }
}

/** @param {DataTransferItemList} items @returns {Promise<File[]>} files, and those within folders */
async function _filesOf(items) {
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  /** @type {File[]} */
  const files = [];
  const walk = async (/** @type {FileSystemEntry} */ entry) => {
    if (entry instanceof FileSystemFileEntry) {
      files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    } else if (entry instanceof FileSystemDirectoryEntry) {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((/** @type {(found: FileSystemEntry[]) => void} */ resolve, reject) => reader.readEntries(resolve, reject));
        if (!some.length) break;
        for (const one of some) if (!one.name.startsWith(".")) await walk(one);
      }
    }
  };
  for (const entry of entries) await walk(entry);
  return files.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
}

/** Take files that are dropped anywhere on the page, or pasted. */
export function acceptDrops() {
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  const show = (/** @type {boolean} */ on) => document.body.classList.toggle("dropping", on);
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(true);
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) show(false);
  });
  addEventListener("drop", async (event) => {
    show(false);
    if (!hasFiles(event) || !event.dataTransfer) return;
    event.preventDefault();
    upload(await _filesOf(event.dataTransfer.items));
  });
  addEventListener("paste", (event) => {
    const files = event.clipboardData?.files;
    if (files?.length) upload(files);
  });
}

customElements.define("vm-clips", Clips);
