"""What a movie says of its display beside colour tags: HDR metadata, clean aperture."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


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
