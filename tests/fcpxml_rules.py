"""The structure rules of FCPXML 1.10 that a timeline of vidmatte is checked against.

Order and names after Apple's document type definition; times after the remarks in its reference:
https://developer.apple.com/documentation/professional-video-applications/fcpxml-reference.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from fractions import Fraction

#: Children in the order that is required, and attributes: those with ! are required.
ELEMENTS: dict[str, tuple[str, str]] = {
    "fcpxml": ("resources event", "version!"),
    "resources": ("format|asset", ""),
    "format": ("", "id! frameDuration! width height name"),
    "asset": (
        "media-rep",
        "id! name start! duration! hasVideo! videoSources format! hasAudio audioSources"
        " audioChannels audioRate",
    ),
    "media-rep": ("", "kind src! suggestedFilename"),
    "event": ("project", "name"),
    "project": ("sequence", "name"),
    "sequence": ("spine", "format! duration tcStart! tcFormat!"),
    "spine": ("asset-clip|gap", ""),
    "gap": ("asset-clip marker", "name offset start duration!"),
    "asset-clip": (
        "asset-clip marker",
        "ref! name offset! start! duration! lane format enabled srcEnable tcFormat!",
    ),
    "marker": ("", "start! duration value!"),
}
TIME = re.compile(r"(\d+)(?:/(\d+))?s")


def seconds(text: str) -> Fraction:
    match = TIME.fullmatch(text)
    assert match is not None, f"{text!r} is not a time"
    return Fraction(int(match[1]), int(match[2] or 1))


def faults(text: str) -> list[str]:
    """What of a document breaks a rule, a line each."""
    assert "<!DOCTYPE fcpxml>" in text.splitlines()[1]
    root = ET.fromstring(text)
    found = [] if root.get("version") == "1.10" else ["version"]
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    found += [f"id {one} twice" for one in ids if ids.count(one) > 1]
    for element in root.iter():
        found += list(_structure(element))
        found += [
            f"<{element.tag}> refers to {element.get(name)}"
            for name in ("ref", "format")
            if element.get(name) not in (None, *ids)
        ]
    return found + list(_times(root))


def _structure(element: ET.Element):
    if element.tag not in ELEMENTS:
        yield f"<{element.tag}> is not allowed"
        return
    children, attributes = ELEMENTS[element.tag]
    order = [group.split("|") for group in children.split()]
    places = []
    for child in element:
        place = [at for at, group in enumerate(order) if child.tag in group]
        if not place:
            yield f"<{child.tag}> in <{element.tag}>"
        places += place
    if places != sorted(places):
        yield f"the order of {[child.tag for child in element]} in <{element.tag}>"
    known = {name.rstrip("!") for name in attributes.split()}
    yield from (f"{name} of <{element.tag}>" for name in set(element.keys()) - known)
    needed = {name.rstrip("!") for name in attributes.split() if name.endswith("!")}
    yield from (f"<{element.tag}> lacks {name}" for name in needed - set(element.keys()))
    if element.get("tcFormat") not in (None, "DF", "NDF"):
        yield f"tcFormat {element.get('tcFormat')}"


def _times(root: ET.Element):
    """Times on the frame grid, clips inside their assets, storylines without holes or overlaps."""
    duration = {one.get("id"): seconds(one.get("frameDuration", "")) for one in root.iter("format")}
    assets = {one.get("id"): one for one in root.iter("asset")}
    sequence = root.find(".//sequence")
    assert sequence is not None
    grid = duration[sequence.get("format")]
    now = seconds(sequence.get("tcStart", ""))
    end = now + seconds(sequence.get("duration", ""))
    for item in sequence.findall("spine/*"):
        if seconds(item.get("offset", "0s")) != now:
            yield f"a hole or an overlap at {item.get('offset')}"
        now += seconds(item.get("duration", "0s"))
    if now != end:
        yield "the sequence's duration is not its spine's"
    for element in root.iter():
        own = duration[assets[element.get("ref")].get("format")] if element.get("ref") else grid
        timed = element.tag in ("sequence", "gap", "asset-clip")
        for name, unit in (("start", own), ("duration", grid), ("tcStart", grid)):
            if timed and seconds(element.get(name, "0s")) % unit:
                yield f"{name} {element.get(name)} of <{element.tag}> is between two frames"
        if element.get("ref"):
            yield from _inside(element, assets[element.get("ref")])
        if element.tag in ("gap", "asset-clip"):
            yield from _connected(element)


def _inside(clip: ET.Element, asset: ET.Element):
    first, frames = seconds(asset.get("start", "")), seconds(asset.get("duration", ""))
    start = seconds(clip.get("start", ""))
    if not first <= start <= start + seconds(clip.get("duration", "")) <= first + frames:
        yield f"'{clip.get('name')}' is not inside its asset"


def _connected(element: ET.Element):
    local, length = seconds(element.get("start", "")), seconds(element.get("duration", ""))
    for child in element.findall("asset-clip"):
        at = seconds(child.get("offset", ""))
        if not child.get("lane") or not local <= at < local + length:
            yield f"connected clip '{child.get('name')}' at {at}"
