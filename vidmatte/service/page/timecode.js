// @ts-check
/** Frame numbers and timecodes: SMPTE ST 12-1, drop frame too. */

/** @param {string | null | undefined} rate "25" or "24000/1001" @returns {number} frames per second */
export function rateOf(rate) {
  const [over, under = "1"] = (rate ?? "25").split("/");
  const value = Number(over) / Number(under);
  return Number.isFinite(value) && value > 0 ? value : 25;
}

/** @param {number} n @param {number} digits */
const pad = (n, digits = 2) => String(n).padStart(digits, "0");

/** How many numbers each minute drops, but every tenth. @param {number} nominal */
const dropped = (nominal) => Math.round(nominal / 15);

/**
 * @param {number} frame  counted from 0 at the clip's first frame
 * @param {string | null | undefined} start  the first frame's timecode
 * @param {string | null | undefined} rate
 * @returns {string}
 */
export function timecodeOf(frame, start, rate) {
  const nominal = Math.round(rateOf(rate));
  const first = start ?? "00:00:00:00";
  const drop = /[;.]\d+$/.test(first);
  let count = (frameCount(first, nominal) ?? 0) + frame;
  if (drop) {
    const skip = dropped(nominal);
    const inTen = nominal * 600 - 9 * skip;
    const inOne = nominal * 60 - skip;
    const tens = Math.floor(count / inTen);
    const rest = count % inTen;
    count += 9 * skip * tens + (rest >= nominal * 60 ? skip * (Math.floor((rest - nominal * 60) / inOne) + 1) : 0);
  }
  const seconds = Math.floor(count / nominal);
  const digits = nominal > 100 ? 3 : 2;
  const parts = [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  return `${parts.map((part) => pad(part)).join(":")}${drop ? ";" : ":"}${pad(count % nominal, digits)}`;
}

/** @param {string} text @param {number} nominal @returns {number | null} frames since 00:00:00:00 */
function frameCount(text, nominal) {
  const match = /^(\d{1,2})[:;.](\d{2})[:;.](\d{2})([:;.])(\d{2,3})$/.exec(text.trim());
  if (!match) return null;
  const [hours, minutes, seconds, frames] = [match[1], match[2], match[3], match[5]].map(Number);
  const total = ((hours * 60 + minutes) * 60 + seconds) * nominal + frames;
  if (match[4] === ":") return total;
  const whole = hours * 60 + minutes;
  return total - dropped(nominal) * (whole - Math.floor(whole / 10));
}

/**
 * @param {string} text  a timecode, "+12", "-3", "f12" or "12", or seconds such as "1.5s"
 * @param {number} frame  where the viewer stands
 * @param {string | null | undefined} start
 * @param {string | null | undefined} rate
 * @returns {number | null} the frame meant; null where the text is none of these
 */
export function frameOf(text, frame, start, rate) {
  const words = text.trim();
  if (/^[+-]\d+$/.test(words)) return frame + Number(words);
  if (/^f?\d+$/.test(words)) return Number(words.replace("f", ""));
  if (/^\d+(\.\d+)?s$/.test(words)) return Math.round(Number.parseFloat(words) * rateOf(rate));
  const nominal = Math.round(rateOf(rate));
  const count = frameCount(words, nominal);
  return count === null ? null : count - (frameCount(start ?? "00:00:00:00", nominal) ?? 0);
}
