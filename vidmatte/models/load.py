"""The matting stage: from a model's name to a network that gives frames their alpha.

``model`` is where it begins: weights, device, cache. Two kinds of network are fed in
``salient`` (with ``looks``) and ``recurrent`` (with ``reduce``), ``combined`` joins two and
``several`` spreads one over GPUs; all are what ``base`` says. ``session`` and ``openvino`` load
what runs them, on a ``device``, in parts where memory lacks (``memory_guard``). ``onnx_file``
reads the file, ``fit`` checks it; ``channels``, ``halves`` and ``offsets`` rewrite its graph, so
that it runs faster or bears half precision. ``cache`` keeps raw alphas between runs. ``threads``
shares the cores out, ``ort`` keeps onnxruntime quiet.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vidmatte.core.families import RECURRENT, SEGMENTATION
from vidmatte.errors import UsageError
from vidmatte.models.base import Network
from vidmatte.models.runtimes.device import Device, choose_device
from vidmatte.settings import Settings

__all__ = [
    "Device",
    "Network",
    "augment_schedule",
    "check_options",
    "choose_device",
    "load_network",
]


def check_options(family_name: str, settings: Settings) -> None:
    """Raise UsageError for an option that has no effect on models of the family."""
    if family_name in RECURRENT:
        if settings.batch > 1:
            raise UsageError(f"--batch {settings.batch}: a recurrent model runs frame by frame")
        if settings.smooth == "strong":
            raise UsageError("--smooth strong is for per-frame models; use --smooth on")
        if settings.smooth == "auto" and settings.smooth_strength != 1:
            strength = f"--smooth-strength {settings.smooth_strength:g}"
            raise UsageError(f"{strength}: recurrent models go unsmoothed; add --smooth on")
        if settings.normalize != "clip":
            raise UsageError(
                f"--normalize {settings.normalize} is for per-frame models: leave it out, or take"
                " one like isnet"
            )
    elif settings.downsample:
        raise UsageError(f"--downsample {settings.downsample:g} has no effect on {family_name}")


def augment_schedule(family_name: str, settings: Settings) -> str:
    """How frames are shown to a network of the family: one of ``looks.WAYS``."""
    if family_name not in SEGMENTATION:
        return "plain"
    if settings.smooth == "strong":
        return "both"
    steadied = settings.smooth != "off" and settings.smooth_strength > 0
    if not (steadied and SEGMENTATION[family_name].alternates_views):
        return "plain"
    # Without a look ahead four are too few of each to be averaged.
    return "two" if settings.smooth == "live" else "four"


def load_network(
    path: Path,
    family_name: str,
    settings: Settings,
    device: Device,
    report: Callable[[str], None] = lambda _: None,
) -> Network:
    """Load the weights at ``path``, fed as its family wants.

    report: is told, while the network runs, what the user should know, a line at a time.
    Raises ModelError for a file that does not fit the family, DeviceError, UsageError.
    """
    from vidmatte.models.runtimes.multi_gpu import SharedRunner, ShotDistributor
    from vidmatte.models.runtimes.onnx_file import check_alpha, square_side
    from vidmatte.models.runtimes.onnx_loader import load_recurrent, load_runner
    from vidmatte.models.rvm import KEPT_OUTPUTS, RecurrentNetwork
    from vidmatte.models.segmentation import SegmentationNetwork

    if family_name in RECURRENT:
        networks = []
        for part in device.parts or (device,):
            loaded, finish = load_recurrent(
                path, part, settings.threads, KEPT_OUTPUTS, settings.runtime
            )
            networks.append(RecurrentNetwork(loaded.runner, settings.downsample, finish))
        return ShotDistributor(networks) if len(networks) > 1 else networks[0]
    family = SEGMENTATION[family_name]
    batch = settings.batch or device.default_batch
    copies = [
        load_runner(
            path,
            part,
            settings.threads,
            outputs=1,
            runtime=settings.runtime,
            family_name=family_name,
            batch=batch,
            report=report,
        )
        for part in device.parts or (device,)
    ]
    loaded = copies[0]
    side = square_side(path, loaded.inputs, family.size)
    check_alpha(path, loaded.outputs)
    runners = [copy.runner for copy in copies]
    return SegmentationNetwork(
        SharedRunner(runners) if len(runners) > 1 else runners[0],
        family,
        size=side,
        input_name=next(iter(loaded.inputs)),
        batch=batch,
        way=augment_schedule(family_name, settings),
        minmax=settings.normalize == "minmax",
    )
