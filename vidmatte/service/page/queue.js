// @ts-check
/** The queue: what runs, how far, and the results to download or to drag out. */

import { lineOf, postJson, remove } from "./api.js";
import { ask } from "./dialogs.js";
import { durationText, h, icon, iconButton, keyed, setText, sizeText } from "./dom.js";
import { takeAnswers } from "./jobs.js";
import { say } from "./messages.js";
import { Part, touches } from "./part.js";
import { change, openClip, state } from "./store.js";
import { looksOf } from "./strip.js";
import { t } from "./strings.js";

/** @typedef {import("./types.js").Job} Job */
/** @typedef {import("./types.js").Result} Result */

const ENDED = ["done", "failed", "cancelled"];

/** @param {Job} job @param {string} action */
async function _post(job, action) {
  const before = state.jobs;
  try {
    const answer = await postJson(`jobs/${job.id}/${action}`);
    if (answer?.id) takeAnswers([answer], before);
  } catch (error) {
    say(`${job.name}: ${lineOf(error)}`, "error");
  }
}

/** @param {Job[]} jobs */
async function _delete(jobs) {
  const gone = new Set();
  for (const job of jobs) {
    try {
      await remove(`jobs/${job.id}`);
      gone.add(job.id);
    } catch (error) {
      say(`${job.name}: ${lineOf(error)}`, "error");
    }
  }
  change({ jobs: new Map([...state.jobs].filter(([id]) => !gone.has(id))) });
}

/** @param {Result} result @returns {string} its address, relative like all of the page's */
const _address = (result) => result.url.replace(/^\//, "");

class Queue extends Part {
  constructor() {
    super();
    /** jobs whose box is not ticked @type {Set<string>} */
    this.unticked = new Set();
  }

  build() {
    this.summary = h("span", { class: "quiet-text" });
    this.zip = h("a", { class: "button", download: "" });
    this.clear = h("button", { type: "button", onclick: () => this._clear() }, t("queue.clear"));
    this.none = h("p", { class: "hint" }, t("queue.none"));
    this.list = h("ul", { class: "rows jobs", "aria-label": t("queue") });
    this.append(h("div", { class: "queue-bar" }, h("h2", {}, t("queue")), this.summary, h("span", { class: "spring" }), this.zip, this.clear), this.none, this.list);
  }

  /** @returns {Job[]} what runs, what waits in its order, then what has ended, the newest first */
  _jobs() {
    const rank = (/** @type {Job} */ job) => (job.state === "running" ? 0 : job.state === "queued" ? 1 : 2);
    const age = (/** @type {Job} */ a, /** @type {Job} */ b) => (a.created < b.created ? -1 : a.created > b.created ? 1 : 0);
    return [...state.jobs.values()].sort((a, b) => rank(a) - rank(b) || (rank(a) < 2 ? age(a, b) : age(b, a)));
  }

  async _clear() {
    const ended = this._jobs().filter((job) => ENDED.includes(job.state));
    if (await ask(t("queue.clear.ask", { n: ended.length }), t("ask.delete"))) await _delete(ended);
  }

  /** @param {Set<import("./part.js").Key> | null} changed */
  update(changed) {
    if (!touches(changed, "jobs", "clips", "formats")) return;
    const jobs = this._jobs();
    if (this.list) keyed(this.list, jobs, (job) => job.id, (job) => this._make(job), (row, job) => this._show(row, job));
    if (this.none) this.none.hidden = jobs.length > 0;
    const [running, waiting] = ["running", "queued"].map((one) => jobs.filter((job) => job.state === one).length);
    if (this.summary) setText(this.summary, running + waiting ? t("queue.running", { n: running, m: waiting }) : "");
    const chosen = jobs.filter((job) => job.state === "done" && job.results.length && !this.unticked.has(job.id));
    if (this.zip) {
      this.zip.hidden = !chosen.length;
      this.zip.textContent = t("queue.zip", { n: chosen.length });
      this.zip.href = `api/zip?jobs=${chosen.map((job) => job.id).join(",")}`;
    }
    if (this.clear) this.clear.hidden = !jobs.some((job) => ENDED.includes(job.state));
  }

  /** @param {Job} job */
  _make(job) {
    const now = () => state.jobs.get(job.id) ?? job;
    const tick = h("input", { type: "checkbox", checked: !this.unticked.has(job.id), "aria-label": t("job.select", { name: job.name }), onchange: () => {
      if (tick.checked) this.unticked.delete(job.id);
      else this.unticked.add(job.id);
      this.update(null);
    } });
    const open = h("button", { type: "button", class: "link job-name", title: t("job.open", { name: job.name }), onclick: () => {
      if (state.clips.has(job.clip)) openClip(job.clip);
    } }, job.name);
    return h("li", { class: "job" }, tick, h("div", { class: "job-main" },
      h("div", { class: "job-line" }, open, h("span", { class: "job-format quiet-text" }, job.output?.format ?? ""), h("span", { class: "job-state" })),
      h("progress", { max: "1", "aria-label": t("job.progress", { name: job.name }) }), h("p", { class: "fault-line" }), h("div", { class: "results" })),
      h("div", { class: "job-actions" },
        iconButton("close", t("job.cancel", { name: job.name }), () => _post(now(), "cancel"), { "data-action": "cancel" }),
        iconButton("retry", t("job.retry", { name: job.name }), () => _post(now(), "retry"), { "data-action": "retry" }),
        iconButton("remove", t("job.delete", { name: job.name }), () => _delete([now()]), { "data-action": "delete" })));
  }

  /** @param {HTMLElement} row @param {Job} job */
  _show(row, job) {
    const part = (/** @type {string} */ query) => /** @type {HTMLElement} */ (row.querySelector(query));
    row.dataset.state = job.state;
    const active = job.state === "queued" || job.state === "running";
    const bar = /** @type {HTMLProgressElement} */ (part("progress"));
    bar.hidden = job.state !== "running";
    if (job.frames) bar.value = (job.done ?? 0) / job.frames;
    else bar.removeAttribute("value");
    setText(part(".job-state"), _stateWords(job));
    setText(part(".fault-line"), job.state === "failed" ? (job.error ?? "") : "");
    part(".fault-line").hidden = job.state !== "failed";
    part("[data-action=cancel]").hidden = !active;
    part("[data-action=retry]").hidden = job.state !== "failed" && job.state !== "cancelled";
    part("[data-action=delete]").hidden = active;
    part("input").style.visibility = job.state === "done" ? "" : "hidden";
    keyed(part(".results"), job.state === "done" ? job.results : [], (one) => one.name, _makeResult, () => {});
  }
}

/** @param {Job} job @returns {string} */
function _stateWords(job) {
  const words = [t(`job.${job.state}`)];
  if (job.state === "running") {
    if (job.phase && !job.done) words.push(t(`phase.${job.phase}`, {}, job.phase));
    if (job.frames) words.push(t("job.frames", { done: job.done ?? 0, frames: job.frames }));
    if (job.fps) words.push(t("job.fps", { n: job.fps >= 10 ? Math.round(job.fps) : job.fps.toFixed(1) }));
    if (job.seconds_left !== null && job.seconds_left !== undefined) words.push(t("job.left", { time: durationText(job.seconds_left) }));
  }
  const looks = looksOf(job).length;
  if (job.state === "done" && looks) words.push(t("job.looks", { n: looks }));
  return words.join(" · ");
}

/** @param {Result} result */
function _makeResult(result) {
  const href = _address(result);
  const name = result.name.replace(/\/$/, ".zip");
  const link = h("a", { class: "result", href, download: name, draggable: "true", title: t("job.drag"), "aria-label": t("job.download", { name }) },
    icon("download"), h("span", { class: "result-name" }, name), h("span", { class: "quiet-text" }, sizeText(result.bytes)));
  link.addEventListener("dragstart", (event) => {
    const type = result.type || "application/octet-stream";
    event.dataTransfer?.setData("DownloadURL", `${type}:${name.split("/").pop()}:${link.href}`);
    event.dataTransfer?.setData("text/uri-list", link.href);
  });
  return link;
}

customElements.define("vm-queue", Queue);
