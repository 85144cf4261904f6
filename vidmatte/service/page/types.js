// @ts-check
/**
 * The objects of the API, as the page uses them. This module has types only.
 *
 * @typedef {object} Clip
 * @property {string} id
 * @property {string} name
 * @property {number} bytes
 * @property {"probing" | "ready" | "failed"} state
 * @property {string | null} error
 * @property {"movie" | "picture" | null} kind
 * @property {number | null} width
 * @property {number | null} height
 * @property {number | null} frames
 * @property {string | null} rate  "25" or "24000/1001"
 * @property {string | null} timecode  of the first frame
 *
 * @typedef {Record<string, any>} Settings  options of a run by name, those that are not the default
 *
 * @typedef {object} Output
 * @property {string | null} format  null: prores for a clip, png for a picture
 * @property {string[]} extras  "matte", "foreground", "comp"
 * @property {string | null} background  a colour, "checker", "blur:20" or "clip:ID"
 * @property {string | null} timeline
 *
 * @typedef {object} Result
 * @property {string} name
 * @property {number} bytes
 * @property {string} type
 * @property {string} url
 *
 * @typedef {object} Job
 * @property {string} id
 * @property {string} clip
 * @property {string} name
 * @property {"queued" | "running" | "done" | "failed" | "cancelled"} state
 * @property {string} created
 * @property {string | null} phase
 * @property {number | null} done
 * @property {number | null} frames
 * @property {number | null} fps
 * @property {number | null} seconds_left
 * @property {string | null} error
 * @property {Settings} settings
 * @property {Output} output
 * @property {string} command
 * @property {Result[]} results
 * @property {string[]} warnings
 * @property {Quality | null} quality
 *
 * @typedef {object} Quality  inclusive ranges of frame numbers; doubtful: single ones
 * @property {[number, number][]} [empty]
 * @property {[number, number][]} [full]
 * @property {[number, number][]} [jumps]
 * @property {[number, number][]} [subject_lost]
 * @property {number[]} [subject_doubtful]
 *
 * @typedef {object} Option
 * @property {string} name
 * @property {string} kind  bool, int, float, text or list
 * @property {any} default
 * @property {string[]} choices
 * @property {number | null} low
 * @property {number | null} high
 * @property {string} help
 * @property {string} group
 * @property {string} flag
 *
 * @typedef {object} Format
 * @property {string} name
 * @property {string[]} suffixes
 * @property {string | null} alpha
 * @property {string} depth
 * @property {string} good_for
 * @property {"movie" | "sequence" | "still"} kind
 * @property {string | null} [missing]  what it needs and this service does not have
 *
 * @typedef {object} Model
 * @property {string} name
 * @property {string} licence
 * @property {boolean | null} commercial
 * @property {string} description
 * @property {number} bytes
 * @property {boolean} fetched
 * @property {boolean} [fetching]
 * @property {boolean} [needs_acceptance]  of its licence, before it is fetched
 * @property {string} [state]  of a fetch that runs or failed
 * @property {number} [done]
 * @property {string | null} [error]
 *
 * @typedef {object} Preset
 * @property {string} name
 * @property {{en: string, zh: string}} title
 * @property {"movie" | "picture" | "both"} for
 * @property {Settings} settings
 * @property {Partial<Output>} output
 *
 * @typedef {object} Upload
 * @property {number} key
 * @property {string} name
 * @property {number} size
 * @property {number} sent
 * @property {"waiting" | "sending" | "broken" | "failed" | "lost"} state  lost: its file must be
 *   chosen again, as a page that was reloaded has no access to it
 * @property {string} message
 *
 * @typedef {object} Candidate
 * @property {number} number
 * @property {number} left
 * @property {number} top
 * @property {number} right
 * @property {number} bottom
 * @property {number} area
 *
 * @typedef {object} Range
 * @property {number | null} first
 * @property {number | null} last  inclusive
 */
export {};
