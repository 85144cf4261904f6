// @ts-check
/** Dialogs: a question, the token, the keys. */

import { RefusedError, lineOf, postJson } from "./api.js";
import { h, iconButton } from "./dom.js";
import { change, state } from "./store.js";
import { t } from "./strings.js";

/** @param {string} title @param {...Node} children @returns {HTMLDialogElement} open, and removed when it closes */
function _open(title, ...children) {
  const id = `dialog-${Date.now()}`;
  const dialog = h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), ...children);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** @param {string} question @param {string} yes @returns {Promise<boolean>} */
export function ask(question, yes) {
  return new Promise((resolve) => {
    const form = h("form", { method: "dialog", class: "buttons end" }, h("button", { value: "" }, t("ask.no")), h("button", { value: "yes", class: "danger" }, yes));
    const dialog = _open(question, form);
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
  });
}

let asking = false;

/** Ask for the token, and begin anew with it. */
export function askToken() {
  if (asking) return;
  asking = true;
  const input = h("input", { type: "password", "aria-label": t("login"), autocomplete: "current-password", required: true });
  const fault = h("p", { class: "fault-line", role: "alert" });
  const form = h("form", { class: "login" }, input, h("button", { type: "submit", class: "primary" }, t("login.enter")));
  const dialog = _open(t("login"), h("p", {}, t("login.text")), form, fault);
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await postJson("login", { token: input.value });
      location.reload();
    } catch (error) {
      fault.textContent = error instanceof RefusedError ? lineOf(error) : t("offline");
      input.select();
    }
  });
}

/** Keys as they are shown, and the text on each. @type {[string, string][]} */
const KEYS = [
  ["1 2 3 4 5 6 7", "keys.views"], [", .", "keys.step"], ["< >", "keys.ten"], ["J K L", "keys.play"], ["Space", "keys.space"],
  ["Home End", "keys.ends"], ["I O", "keys.range"], ["X", "keys.range.clear"], ["[ ]", "keys.marks"], ["G", "keys.goto"],
  ["S V", "keys.tools"], ["← ↑ → ↓", "keys.cross"], ["Enter Shift+Enter", "keys.enter"], ["Ctrl+Z Ctrl+Shift+Z", "keys.undo"],
  ["0 Z + -", "keys.zoom"], ["B", "keys.backdrop"], ["PageUp PageDown", "keys.clip"], ["Ctrl+Enter", "keys.run"], ["?", "keys.help"],
];

/** Show the keys. */
export function showHelp() {
  if (document.querySelector("dialog")) return;
  const on = h("input", { type: "checkbox", checked: state.keys, onchange: () => change({ keys: on.checked }) });
  const rows = KEYS.flatMap(([keys, text]) => [
    h("dt", {}, ...keys.split(" ").flatMap((key) => [h("kbd", {}, key), " "])), h("dd", {}, t(text)),
  ]);
  const dialog = _open(t("keys.title"),
    h("div", { class: "help", tabindex: "0", role: "group", "aria-label": t("keys.title") }, h("dl", { class: "keys" }, ...rows),
      h("h3", {}, t("help.mouse")), h("p", {}, t("help.mouse.text")), h("h3", {}, t("help.files")), h("p", {}, t("help.files.text"))),
    h("label", { class: "check" }, on, t("keys.on")));
  dialog.classList.add("wide");
  dialog.append(iconButton("close", t("close"), () => dialog.close(), { class: "icon-button corner", autofocus: true }));
}
