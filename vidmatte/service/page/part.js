// @ts-check
/** What the page's elements share: they are built once, and again in another language. */

import { h } from "./dom.js";
import { change, listen, state } from "./store.js";
import { t } from "./strings.js";

/** @typedef {import("./store.js").Key} Key */

/**
 * A section with a title that can be closed, and stays so.
 *
 * @param {string} name  of its title among the strings
 * @param {boolean} open  at first
 * @param {Node[]} more  beside the title
 * @param {...Node} children
 */
export function panel(name, open, more, ...children) {
  const element = h("details", { class: "panel", open: state.panels[name] ?? open, ontoggle: () => {
    if ((state.panels[name] ?? open) !== element.open) change({ panels: { ...state.panels, [name]: element.open } });
  } }, h("summary", {}, h("h2", {}, t(name)), ...more), h("div", { class: "panel-body" }, ...children));
  return element;
}

/** An element that shows part of the state. */
export class Part extends HTMLElement {
  connectedCallback() {
    this._end = listen((changed) => (changed.has("language") ? this._rebuild() : this.update(changed)));
    this._rebuild();
  }

  disconnectedCallback() {
    this._end?.();
  }

  _rebuild() {
    const place = this._focused();
    this.replaceChildren();
    this.build();
    this.update(null);
    if (place) /** @type {HTMLElement | undefined} */ (this.querySelectorAll("button, input, select, a")[place - 1])?.focus();
  }

  /** @returns {number} which of its controls has the focus, from 1; 0: none */
  _focused() {
    return [...this.querySelectorAll("button, input, select, a")].indexOf(/** @type {Element} */ (document.activeElement)) + 1;
  }

  /** Make the children. */
  build() {}

  /** Show the state. @param {Set<Key> | null} _changed what is new; null: all of it */
  update(_changed) {}
}

/** @param {Set<Key> | null} changed @param {...Key} keys @returns {boolean} */
export function touches(changed, ...keys) {
  return changed === null || keys.some((key) => changed.has(key));
}
