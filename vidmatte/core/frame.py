"""What travels: a Frame, and the Clip that says what all its frames share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np

from vidmatte.core.colour import ColourTags
from vidmatte.core.orientation import UPRIGHT, Orientation
from vidmatte.core.source import AudioTrack, Source, VideoTrack


@dataclass(frozen=True)
class MasteringDisplay:
    """SMPTE ST 2086. chromaticities: CIE x, y of red, green, blue and white; luminance: the least
    and the largest, in cd/m2."""

    chromaticities: tuple[Fraction, ...]
    luminance: tuple[Fraction, Fraction]


@dataclass(frozen=True)
class DisplayFacts:
    """What is carried beside the samples where a container holds it.

    mastering: of HDR10. content_light: MaxCLL and MaxFALL in cd/m2 (CTA-861.3). clean_aperture:
    width, height, and how far its centre lies to the right of and below the picture's, in pixels
    (ISO/IEC 14496-12, 12.1.4). dolby_vision: the profile; dolby_only: it has no base layer that
    other players read.
    """

    mastering: MasteringDisplay | None = None
    content_light: tuple[int, int] | None = None
    clean_aperture: tuple[Fraction, Fraction, Fraction, Fraction] | None = None
    dolby_vision: int | None = None
    dolby_only: bool = False

    def dolby_note(self) -> str | None:
        """One clause on Dolby Vision; None without."""
        if self.dolby_vision is None:
            return None
        if not self.dolby_only:
            return (
                f"Dolby Vision, profile {self.dolby_vision}: its base layer is used; the metadata"
                " for each scene is not carried"
            )
        return (
            f"Dolby Vision, profile {self.dolby_vision}, without a base layer for other players:"
            " colours come out purple and green, and mattes suffer: convert it to HDR10 or SDR"
            " first"
        )


NO_FACTS = DisplayFacts()


@dataclass(frozen=True)
class Clip:
    """What all frames of a source share, after rotation and trimming.

    ``source``: what the clip comes from: its name, its files where there are any, its identity and
    its sound; made by the reader. ``width``/``height`` are upright. Times: a frame's ``pts *
    time_base`` is in seconds from ``origin``, the moment of the container's own timeline (seconds)
    that is zero in the output; ``end`` is on the same timeline, None for the end of the source.
    ``sound_offset``: the moment of that timeline at which that of the sound begins, where the sound
    comes from another file. ``declared_colour``: the colour tags of the stream; ``colour``: the
    same with unspecified values filled in. ``frame_count``: None where the container does not state
    it. ``first_frame``: the number in the source of the clip's first frame; ``untrimmed_count``:
    how many frames the source has without in and out points (None: ``frame_count``).
    ``source_frame_count``: how many frames the source has where they were conformed to another
    rate; None where each comes once. ``orientation``: how the stored pictures are rotated and
    mirrored. ``display``: HDR metadata and the like. ``icc_profile``: embedded in a picture file (a
    folder's first), where nothing else in it states the primaries. ``video``: a movie's video
    tracks, without cover art. ``output_names``: the name of each picture's result, without suffix,
    in order.
    """

    source: Source
    kind: str  # "movie", "pictures" (a folder) or "picture"
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    pixel_format: str
    working_format: str
    bit_depth: int
    colour: ColourTags
    declared_colour: ColourTags
    constant_rate: bool = True
    frame_count: int | None = None
    origin: Fraction = Fraction(0)
    sound_offset: Fraction = Fraction(0)
    end: Fraction | None = None
    sample_aspect_ratio: Fraction = Fraction(1)
    orientation: Orientation = UPRIGHT
    icc_profile: bytes | None = field(default=None, repr=False)
    display: DisplayFacts = NO_FACTS
    interlaced: bool = False
    has_alpha: bool = False
    container: str = ""
    codec: str = ""
    timecode: str | None = None
    reel: str | None = None
    video: tuple[VideoTrack, ...] = ()
    audio: tuple[AudioTrack, ...] = ()
    output_names: tuple[str, ...] = ()
    first_frame: int = 0
    untrimmed_count: int | None = None
    source_frame_count: int | None = None

    @property
    def sound_origin(self) -> Fraction:
        """The moment of the sound's own timeline (seconds) that is zero in the output."""
        return self.origin - self.sound_offset

    def has_shape(self, width: int, height: int) -> bool:
        """Whether a picture of that size has the frames' aspect ratio, as stored or as displayed,
        to 2 %: sizes are rounded, and some codecs fill up to whole blocks."""
        given = width * self.height / (height * self.width)
        return any(abs(given / shape - 1) <= 0.02 for shape in (1, self.sample_aspect_ratio))


class TimeSpan(Protocol):
    """A place in time: all that muxers need to know of a frame."""

    index: int
    pts: int
    duration: int
    time_base: Fraction


@dataclass(slots=True, repr=False)
class Frame:
    """One picture on its way, with its place in time.

    picture: the source's own pixels in the working format (no trip through RGB),
        upright, colour tags resolved.
    rgb: (H, W, 3) uint8, full range, display-referred: what networks and filters see.
    alpha: (H, W) float32 in 0..1, straight coverage; None before the matting stage, which
        writes it into what ``writable_alpha`` gives.
    foreground: (H, W, 3) uint8 full-range RGB, only from models that give one.
    pts, duration: integers in units of ``time_base``.
    source_index: see ``DecodedPicture``: the frame of the source that it is, where that is not
        its ``index``.
    new_shot: this frame begins a shot (the first frame does).
    mirrored: the network saw its mirror image (alpha is mirrored back).
    augment_phase: which view of the test-time augmentation was used; frames of one phase share
        its errors.
    turn: which turn of the test-time augmentation it takes, where that is not its ``index``.
    carried: its alpha comes from the frames around it; the network did not run on it.
    wants_state, state: a recurrent network's state before this frame, by name: the network starts
        from it where it is there, and stores it where it is wanted.
    name: of a picture file's result, without suffix.
    on_device: where its alpha stays on the network's device (``Network.keeps_on``), what lies
        there: a ``DeviceFrame``. ``alpha`` is None until it is downloaded, then the same; see
        ``to_host``.
    findings: what to report about it: warnings of the source, faults of the matte.
    alpha_buffer: gives the slot's (H, W) float32, the same each time, with whatever an earlier
        frame left there; a slot has it from the first call on.
    return_slot: returns the slot that holds the pixels; the arrays are invalid after it.
    """

    index: int
    pts: int
    duration: int
    time_base: Fraction
    picture: av.VideoFrame
    rgb: np.ndarray
    alpha: np.ndarray | None = None
    foreground: np.ndarray | None = None
    new_shot: bool = False
    mirrored: bool = False
    augment_phase: int = 0
    turn: int | None = None
    carried: bool = False
    name: str | None = None
    source_index: int | None = None
    wants_state: bool = False
    state: dict[str, np.ndarray] | None = None
    on_device: Any = None
    findings: dict[str, list[str]] = field(default_factory=dict)
    alpha_buffer: Callable[[], np.ndarray] | None = field(default=None)
    return_slot: Callable[[], None] | None = field(default=None)

    def __post_init__(self) -> None:
        height, width = self.picture.height, self.picture.width
        if self.rgb.shape != (height, width, 3) or self.rgb.dtype != np.uint8:
            raise ValueError(
                f"rgb is {self.rgb.dtype} {self.rgb.shape}, not uint8 {(height, width, 3)}"
            )

    def __repr__(self) -> str:
        alpha = None if self.alpha is None else f"{self.alpha.dtype} {self.alpha.shape}"
        return (
            f"Frame({self.index}, pts={self.pts}, {self.picture.format.name}"
            f" {self.picture.width}x{self.picture.height}, alpha={alpha})"
        )

    @property
    def place(self) -> int:
        """The number of the source's frame that it is: ``source_index``, or else ``index``."""
        return self.index if self.source_index is None else self.source_index

    def writable_alpha(self) -> np.ndarray:
        """``alpha``, (H, W) float32, for the caller to write all of it.

        Where there is none yet it becomes the slot's memory, or new memory outside a slot.
        """
        if self.alpha is None:
            give = self.alpha_buffer
            self.alpha = np.empty(self.rgb.shape[:2], np.float32) if give is None else give()
        return self.alpha

    def to_host(self) -> None:
        """Bring alpha and foreground to host memory where they are only on a device. Raises
        ModelError."""
        if self.on_device is None:
            return
        if self.alpha is None:
            self.on_device.lower(self.writable_alpha())
        if self.foreground is None:
            self.foreground = self.on_device.foreground_on_host()

    def release(self) -> None:
        """Give the slot back; doing it twice is harmless."""
        give_back, self.return_slot, self.on_device = self.return_slot, None, None
        if give_back is not None:
            give_back()
