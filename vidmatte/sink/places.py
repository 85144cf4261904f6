"""What stands beside a result, for a while or for good, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidmatte.sink.formats import is_pattern
from vidmatte.sink.names import NUMBER, beside, whole


@dataclass(frozen=True)
class Places:
    """The places that belong to a result.

    partial: its unfinished twin. lock: of the run that writes it. work: the folder in which a
    run with ``--resume`` keeps its frames. manifest: what says how it was made.
    """

    partial: Path
    lock: Path
    work: Path
    manifest: Path


def places_of(out: Path) -> Places:
    """The places of the file, the folder or the pattern ``out``.

    Those of a pattern like ``cut/shot_%06d.png`` are beside the pictures' folder, which need
    not be there yet, but for the manifest, which joins the pictures.
    """
    if is_pattern(out):
        folder, plain = out.parent, NUMBER.sub("", out.name)
        name = f".{whole(folder).name}.{plain}"
        return Places(
            partial=beside(folder, f"{name}.partial"),
            lock=beside(folder, f"{name}.lock"),
            work=beside(folder, f"{name}.resume"),
            manifest=beside(out, f"{plain}.json"),
        )
    name, stem = whole(out).name, whole(out).stem
    return Places(
        partial=beside(out, f".{stem}.partial{out.suffix}"),
        lock=beside(out, f".{name}.lock"),
        work=beside(out, f".{name}.resume"),
        manifest=beside(out, f"{name}.json"),
    )
