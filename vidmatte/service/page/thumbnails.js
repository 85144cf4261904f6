// @ts-check
/** The small pictures in the list of clips: one at a time, so that the viewer's come first. */

const TRIES = 20;

/** @type {(() => Promise<void>)[]} */
const waiting = [];
let running = false;

/**
 * Load a picture when its turn comes; where the service is busy, ask again.
 *
 * @param {HTMLImageElement} image
 * @param {string} url
 */
export function showThumbnail(image, url) {
  waiting.push(() => _load(image, url));
  if (!running) void _run();
}

async function _run() {
  running = true;
  await null; // until the picture is on the page
  for (let next = waiting.shift(); next; next = waiting.shift()) await next();
  running = false;
}

/** @param {HTMLImageElement} image @param {string} url */
async function _load(image, url) {
  for (let tries = 0; tries < TRIES && image.isConnected; tries += 1) {
    const response = await fetch(url).catch(() => null);
    if (response?.ok) {
      const address = URL.createObjectURL(await response.blob());
      image.onload = () => URL.revokeObjectURL(address);
      image.src = address;
      return;
    }
    if (response && response.status !== 503 && response.status !== 429) return;
    await new Promise((resolve) => setTimeout(resolve, 1000 * Number(response?.headers.get("Retry-After") ?? 2)));
  }
}
