// @ts-check
/** What is asked of the service when a run starts: the body of a job, made from the state. */

import { lineOf, postJson } from "./api.js";
import { say } from "./messages.js";
import { change, optionValue, rangeOf, state } from "./store.js";
import { t } from "./strings.js";

/** @typedef {import("./types.js").Clip} Clip */
/** @typedef {import("./types.js").Job} Job */

/** Options of a still alone. */
export const OF_STILLS = ["size", "crop"];

/** @param {Clip} clip @returns {Record<string, any>} the settings with the clip's own range and subject */
export function jobSettings(clip) {
  const settings = { ...state.settings };
  if (!optionValue("despill")) delete settings.despill_strength;
  if (optionValue("smooth") === "off") delete settings.smooth_strength;
  const prompts = state.prompts[clip.id] ?? [];
  if (prompts.length) settings.subject = prompts;
  else delete settings.only;
  const range = rangeOf(clip.id);
  if (clip.kind === "movie") {
    for (const name of OF_STILLS) delete settings[name];
    if (range.first !== null) settings.in_point = `f${range.first}`;
    if (range.last !== null) settings.out_point = `f${range.last + 1}`;
  }
  if (!("in_point" in settings) && !("out_point" in settings)) delete settings.handles;
  return settings;
}

/** @param {Clip} clip */
export function jobBody(clip) {
  // Without the preset: the settings are complete, and the service would fill in what was taken out.
  const output = clip.kind === "picture" ? { ...state.output, timeline: null } : state.output;
  return { clips: [clip.id], settings: jobSettings(clip), output };
}

/** Show jobs as the service answered. An event that came since the request is newer than the answer: it stays.
 * @param {Job[]} answers @param {Map<string, Job>} before the jobs when the request was sent */
export function takeAnswers(answers, before) {
  const jobs = new Map(state.jobs);
  for (const job of answers) {
    if (jobs.get(job.id) === before.get(job.id)) jobs.set(job.id, job);
  }
  change({ jobs });
}

/** Queue a job for each of the clips; refusals are reported. @param {Clip[]} clips */
export async function runJobs(clips) {
  let queued = 0;
  for (const clip of clips) {
    const before = state.jobs;
    try {
      const { jobs } = await postJson("jobs", jobBody(clip));
      queued += jobs.length;
      takeAnswers(jobs, before);
    } catch (error) {
      say(`${clip.name}: ${lineOf(error)}`, "error");
    }
  }
  if (queued) say(t(queued === 1 ? "queued.one" : "queued.many", { n: queued }));
}
