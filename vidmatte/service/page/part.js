// @ts-check
/** What the page's elements share: they are built once, and again in another language. */

import { listen } from "./store.js";

/** @typedef {import("./store.js").Key} Key */

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
