"""One manifest for all results of a call: ``cuts.json`` beside the folder ``cuts``.

What all results share stands once; ``results`` has for each what its own manifest would add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidmatte.core.names import absolute_path, manifest_fault, manifest_in
from vidmatte.errors import SourceError
from vidmatte.jobs import manifest
from vidmatte.writers.output_paths import output_paths

#: The fields that are the same for all results of a call.
_SHARED = ("schema", "vidmatte", "command", "model", "device", "settings")


def write_for_call(
    folder: Path, described: Sequence[dict[str, Any]], failures: Mapping[str, str]
) -> Path:
    """Write the manifest of the results in ``folder``; return its path.

    described: what ``manifest.describe`` gives for each, with paths from the folder's parent; at
    least one. failures: the message by input. Raises OutputError.
    """
    shared = {name: described[0][name] for name in _SHARED}
    results = [
        {name: value for name, value in one.items() if name not in _SHARED} for one in described
    ]
    failed = [{"source": name, "error": message} for name, message in failures.items()]
    return manifest.write({**shared, "results": results, "failures": failed}, folder)


def read_for_call(path: Path) -> list[tuple[Path, dict[str, Any]]] | None:
    """Each result and its manifest, of the call that wrote to the folder ``path`` or whose
    manifest it is; None where there is no such manifest. Raises SourceError."""
    own = absolute_path(path)
    file = own if path.suffix == ".json" and path.is_file() else output_paths(path).manifest
    found = manifest_in(file)
    if found is None or not isinstance(found.get("results"), list):
        return None
    shared = {name: found.get(name) for name in _SHARED}
    manifests = [{**shared, **one} for one in found["results"] if isinstance(one, dict)]
    faults = [manifest_fault(one, in_folder=True) for one in manifests]
    if len(manifests) != len(found["results"]) or any(faults):
        fault = next(filter(None, faults), "results: expected objects")
        raise SourceError(
            f"{file}: incomplete manifest ({fault}): it was changed after it was written"
        )
    folder = path.parent
    return [(folder / one["result"]["name"], one) for one in manifests]
