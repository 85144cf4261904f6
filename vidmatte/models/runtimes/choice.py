"""Which runtime is the faster one for a network on this machine: measured once, then kept.

Without bfloat16 it depends on the network and on the CPU: with AVX2 and two cores OpenVINO takes a
tenth less than onnxruntime for isnet and u2netp. The measurement is kept in a file beside the
weights; another CPU, number of cores or version is measured again.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from uuid import uuid4

import numpy as np
from pydantic import ValidationError

from vidmatte.core.concurrency import cpu_facts, lock_at, release_and_unlink, usable_cores
from vidmatte.core.families import Family
from vidmatte.core.stored import StoredModel, key_of, read_stored
from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.openvino import has_bfloat16, is_installed
from vidmatte.models.weights.record import speeds_path

#: OpenVINO has to be this much cheaper: a choice that changes with noise helps nobody.
_CLEARLY = 0.95
_RUNS = 2
_RUNTIMES = ("onnxruntime", "openvino")
_FRAME = (1920, 1080)  # of which the input is made


class _Speeds(StoredModel):
    """Core-seconds of one run of a network by runtime, for each machine by its key."""

    machines: dict[str, dict[str, float]]


def faster_runtime(
    path: Path, sha256: str, family: Family, report: Callable[[str], None]
) -> str | None:
    """'openvino' or 'onnxruntime', whichever needs fewer core-seconds for the network at ``path``.

    None where there is nothing to choose: a recurrent network, whose graphs are divided for
    onnxruntime; no OpenVINO; bfloat16 that CPU and family both allow, which is several times as
    fast; a folder in which the measurement could not be kept. report: takes one line before a
    measurement. Raises ModelError, DeviceError, OSError.
    """
    if family.size is None or not is_installed() or (family.bfloat16 and has_bfloat16()):
        return None
    if not os.access(path.parent, os.W_OK):
        return None
    key = _machine_key(sha256)
    if key not in (known := _read(speeds_path(path))):
        lock = lock_at(path.with_name(f".{path.name}.speed.lock"))
        lock.acquire()  # one process measures, the others wait
        try:
            if key not in (known := _read(speeds_path(path))):
                report(f"{path.stem}: finding the faster runtime on this machine, once")
                known[key] = {name: _core_seconds(path, family, name) for name in _RUNTIMES}
                _write(speeds_path(path), known)
        finally:
            release_and_unlink(lock)
    speeds = known[key]
    return "openvino" if speeds["openvino"] < _CLEARLY * speeds["onnxruntime"] else "onnxruntime"


def _machine_key(sha256: str) -> str:
    """A name for all that the speed of a network with this SHA-256 depends on."""
    cpu = cpu_facts() or {"model name": platform.processor()}
    names = [cpu.get(name, "") for name in ("model name", "flags", "Features")]
    facts = [sha256, platform.machine(), *names, usable_cores()]
    facts += [version_of("onnxruntime", "onnxruntime-gpu"), version_of("openvino")]
    return key_of(facts)


def version_of(*packages: str) -> str:
    """The version of the first of these packages that is installed; '' where none is."""
    for name in packages:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def _core_seconds(path: Path, family: Family, runtime: str) -> float:
    """The core-seconds of one run over a picture of noise; the least of a few."""
    from vidmatte.models.runtimes.onnx_file import input_size
    from vidmatte.models.runtimes.onnx_loader import load_runner

    loaded = load_runner(
        path, Device(), 0, outputs=1, runtime=runtime, bfloat16=family.bfloat16, batch=1
    )
    size = input_size(path, loaded.inputs, family)
    width, height = size.of(_FRAME[0], _FRAME[1])
    noise = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    feed = {next(iter(loaded.inputs)): noise}
    loaded.runner.run(feed)  # the first one allocates
    seconds = []
    for _ in range(_RUNS):
        began = time.process_time()  # of all threads: other programs do not count
        loaded.runner.run(feed)
        seconds.append(time.process_time() - began)
    return min(seconds)


def _read(path: Path) -> dict[str, dict[str, float]]:
    """The kept measurements; none where the file is missing or damaged."""
    try:
        found = _Speeds.model_validate(read_stored(path)).machines
    except (OSError, ValueError, ValidationError):
        return {}
    return {key: speeds for key, speeds in found.items() if speeds.keys() >= {*_RUNTIMES}}


def _write(path: Path, known: dict[str, dict[str, float]]) -> None:
    """Keep the measurements, in one step. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        temporary.write_text(json.dumps({"machines": known}, indent=1) + "\n", "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
