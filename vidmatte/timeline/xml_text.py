"""XML that may come from anywhere: no entities, nothing read from outside, limited in size."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from vidmatte.errors import SourceError

#: Larger or deeper than any edit.
MOST_BYTES = 256 << 20
_MOST_DEPTH = 200


def parse(path: Path) -> ET.Element:
    """The root element of a file.

    A document type may be named, as FCPXML does, but one that declares entities is refused: they
    can expand to gigabytes or name files to read. Raises SourceError.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise SourceError(f"{path}: {size / 1e6:.0f} MB of XML: at most {MOST_BYTES >> 20} MB")
    builder, depth = ET.TreeBuilder(), 0

    def refuse(*_: Any) -> NoReturn:
        raise SourceError(f"{path}: it declares XML entities: remove them from the file")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MOST_DEPTH:
            raise SourceError(f"{path}: XML elements nested deeper than {_MOST_DEPTH}")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path}: not valid XML ({error})") from error
    return builder.close()


def document(root: ET.Element, doctype: str) -> bytes:
    """A document in UTF-8, indented, with its document type named."""
    ET.indent(root, "  ")
    body = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE {doctype}>\n{body}\n'.encode()


def add(parent: ET.Element, tag: str, text: object = None, **attributes: str) -> ET.Element:
    """A new last child of ``parent``."""
    child = ET.SubElement(parent, tag, attributes)
    if text is not None:
        child.text = str(text)
    return child
