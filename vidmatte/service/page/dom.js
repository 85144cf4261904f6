// @ts-check
/** Making and updating elements. No markup is ever built from text, so names need no escaping. */

/**
 * An element with attributes, listeners and children.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [props]  `onclick` and the like are listeners; `value`, `checked`
 *   and other booleans are properties; null leaves an attribute out
 * @param {...(Node | string | null | undefined)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === null || value === undefined) continue;
    else if (typeof value === "boolean" && name in element) Object.assign(element, { [name]: value });
    else if (name === "value") Object.assign(element, { value });
    else element.setAttribute(name, String(value));
  }
  for (const child of children) if (child !== null && child !== undefined) element.append(child);
  return element;
}

/** Outlines of 16 x 16 pixels, drawn with a line. @type {Record<string, string>} */
const SHAPES = {
  first: "M4 3v10M13 3L6 8l7 5z",
  back: "M11 3L5 8l6 5z",
  forward: "M5 3l6 5-6 5z",
  last: "M12 3v10M3 3l7 5-7 5z",
  play: "M4 3l9 5-9 5z",
  reverse: "M12 3L3 8l9 5z",
  pause: "M5 3v10M11 3v10",
  in: "M9 3H5v10h4",
  out: "M7 3h4v10H7",
  undo: "M6 3L3 6l3 3M3 6h6.5a3.5 3.5 0 0 1 0 7H6",
  redo: "M10 3l3 3-3 3M13 6H6.5a3.5 3.5 0 0 0 0 7H10",
  remove: "M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.5 8.5h6l.5-8.5",
  close: "M4 4l8 8M12 4l-8 8",
  download: "M8 3v7M5 7l3 3 3-3M3 13h10",
  copy: "M6 6h7v7H6zM10 6V3H3v7h3",
  retry: "M13 8a5 5 0 1 1-1.5-3.5M13 2.5v3h-3",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  hand: "M8 2.5v11M2.5 8h11M8 2.5L6.5 4M8 2.5L9.5 4M8 13.5L6.5 12M8 13.5L9.5 12M2.5 8L4 6.5M2.5 8L4 9.5M13.5 8L12 6.5M13.5 8L12 9.5",
  target: "M8 2v3M8 11v3M2 8h3M11 8h3M8 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8",
  theme: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  help: "M6 6a2 2 0 1 1 2.6 1.9c-.4.2-.6.5-.6.9v.7M8 11.7v.3",
  upload: "M8 10V3M5 6l3-3 3 3M3 13h10",
  check: "M3 8.5l3.5 3.5L13 4.5",
};

/**
 * @param {string} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", SHAPES[name] ?? "");
  svg.append(path);
  return svg;
}

/**
 * A button with an icon, and its name and key in the tooltip.
 *
 * @param {string} shape
 * @param {string} label
 * @param {(event: MouseEvent) => void} onclick
 * @param {Record<string, any>} [props]
 */
export function iconButton(shape, label, onclick, props = {}) {
  const key = props.key ? ` (${props.key})` : "";
  const { key: _, ...rest } = props;
  return h("button", { type: "button", class: "icon-button", title: label + key, "aria-label": label, onclick, ...rest }, icon(shape));
}

/**
 * Make the children of ``parent`` match ``items``: those that stay keep their element, and with it
 * the focus.
 *
 * @template T
 * @template {HTMLElement} E
 * @param {HTMLElement} parent
 * @param {T[]} items
 * @param {(item: T) => string} key
 * @param {(item: T) => E} make
 * @param {(element: E, item: T) => void} update
 */
export function keyed(parent, items, key, make, update) {
  const there = new Map([...parent.children].map((child) => [child.getAttribute("data-key"), child]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let element = /** @type {E | undefined} */ (there.get(name));
    there.delete(name);
    if (!element) {
      element = make(item);
      element.setAttribute("data-key", name);
    }
    update(element, item);
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
  for (const child of there.values()) child.remove();
}

/**
 * A function that runs once things have been quiet for ``delay`` milliseconds.
 *
 * @param {() => void} action
 * @param {number} delay
 */
export function debounce(action, delay) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = window.setTimeout(action, delay);
  };
}

/** @param {HTMLElement} element @param {string} text Write only what has changed, for screen readers. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {number | null | undefined} bytes */
export function sizeText(bytes) {
  if (bytes === null || bytes === undefined) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  let value = bytes;
  while (value >= 1000 && power < units.length - 1) {
    value /= 1000;
    power += 1;
  }
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

/** @param {number | null | undefined} seconds */
export function durationText(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const pad = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}
