"""This one, not that one: a subject chosen once and followed through the clip.

In the order of the work: ``inputs`` and ``subjects_file`` (what the user says), ``coarse`` (a
frame made small), ``key_masks`` (prompts to the mask of a key frame), ``tracker.Guide``
(frames in order) or ``passes`` over a ``store`` (keys anywhere, corrections), ``gate`` (a field
and the network's alpha make the matte).
"""

from vidmatte.alpha.guidance.candidates import choose, contact_sheet, find_candidates
from vidmatte.alpha.guidance.coarse import CoarseFrame, CoarseFrameMaker, work_size
from vidmatte.alpha.guidance.gate import Gate, fill_unseen, make_gate, unseen_share
from vidmatte.alpha.guidance.key_masks import check_keys, key_mask
from vidmatte.alpha.guidance.passes import FrameReport, changed_spans, most_doubtful, solve, spans
from vidmatte.alpha.guidance.store import CoarseStore, FieldStore
from vidmatte.alpha.guidance.subjects_file import read_subjects, subjects_text
from vidmatte.alpha.guidance.tracker import (
    FieldStep,
    Guide,
    SubjectTracker,
    TrackerSettings,
    shared_fields,
)
from vidmatte.core.prompts import Box, Mask, Moment, Point, Prompt, parse_prompt

__all__ = [
    "Box",
    "CoarseFrame",
    "CoarseFrameMaker",
    "CoarseStore",
    "FieldStep",
    "FieldStore",
    "FrameReport",
    "Gate",
    "Guide",
    "Mask",
    "Moment",
    "Point",
    "Prompt",
    "SubjectTracker",
    "TrackerSettings",
    "changed_spans",
    "check_keys",
    "choose",
    "contact_sheet",
    "fill_unseen",
    "find_candidates",
    "key_mask",
    "make_gate",
    "most_doubtful",
    "parse_prompt",
    "read_subjects",
    "shared_fields",
    "solve",
    "spans",
    "subjects_text",
    "unseen_share",
    "work_size",
]
