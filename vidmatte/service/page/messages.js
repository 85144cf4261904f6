// @ts-check
/** Messages to the user: one line each, read out by screen readers. */

import { h, iconButton } from "./dom.js";
import { t } from "./strings.js";

const SHOWN_MS = 6000;

/** The region of the messages; politeness is `role="status"` or, for errors, `role="alert"`. */
export class Messages extends HTMLElement {
  connectedCallback() {
    this.calm = h("div", { role: "status", class: "messages-list" });
    this.loud = h("div", { role: "alert", class: "messages-list" });
    this.append(this.calm, this.loud);
  }

  /** @param {string} text @param {"note" | "error"} kind */
  add(text, kind) {
    const parent = kind === "error" ? this.loud : this.calm;
    if (!parent || [...parent.children].some((one) => one.firstChild?.textContent === text)) return;
    const line = h("div", { class: `message ${kind}` }, h("span", {}, text));
    line.append(iconButton("close", t("close"), () => line.remove()));
    parent.append(line);
    while (parent.children.length > 4) parent.firstElementChild?.remove();
    // Errors stay until they are closed: nobody must miss one.
    if (kind === "note") setTimeout(() => line.remove(), SHOWN_MS);
  }
}

/** @param {string} text @param {"note" | "error"} [kind] */
export function say(text, kind = "note") {
  const messages = document.querySelector("vm-messages");
  if (messages instanceof Messages) messages.add(text, kind);
}

customElements.define("vm-messages", Messages);
