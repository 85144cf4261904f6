"""From a file of weights and its family to a network that gives frames their alpha.

``registry`` finds weights, device and cache for a model's name. Per-frame networks are in
``segmentation``, with the views of ``augment``; recurrent ones in ``rvm``; ``ensemble``
combines two. ``runtimes`` loads them for a runtime and a ``device``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidmatte.core.families import FAMILY_TABLE, Family
from vidmatte.errors import DeviceError, ModelError, UsageError
from vidmatte.models.base import Network
from vidmatte.models.runtimes.device import Device, Runner
from vidmatte.models.runtimes.torch_device import TorchDevice, choose_device
from vidmatte.settings import Settings

if TYPE_CHECKING:
    from vidmatte.models.segmentation import SegmentationNetwork

__all__ = [
    "Device",
    "Network",
    "augment_schedule",
    "check_options",
    "choose_device",
    "load_network",
    "why_every_frame",
]


def check_options(family_name: str, settings: Settings) -> None:
    """Raise UsageError for an option that has no effect on models of the family."""
    family = FAMILY_TABLE[family_name]
    if settings.downsample and not family.has_coarse_pass:
        raise UsageError(f"--downsample {settings.downsample:g} has no effect on {family_name}")
    if family.recurrence is not None:
        if settings.batch > 1:
            raise UsageError(f"--batch {settings.batch}: a recurrent model runs frame by frame")
        if settings.smooth == "strong":
            raise UsageError("--smooth strong is for per-frame models; use --smooth on")
        if settings.smooth == "auto" and settings.smooth_strength != 1:
            strength = f"--smooth-strength {settings.smooth_strength:g}"
            raise UsageError(
                f"{strength}: recurrent models are not smoothed by default; add --smooth on"
            )
        if settings.normalize != "clip":
            raise UsageError(
                f"--normalize {settings.normalize} is for per-frame models: omit it, or use"
                " one like isnet"
            )


def why_every_frame(family_names: Iterable[str], settings: Settings) -> str:
    """Why a model of these families has to run on every frame; empty where it need not."""
    for name in family_names:
        family = FAMILY_TABLE[name]
        if family.recurrence is not None:
            return f"{name} is recurrent and needs every frame"
        if family.weightless:
            return f"{name} takes each frame's alpha from its own colours"
    if settings.smooth == "live":
        return "it looks at later frames, which --smooth live does not"
    return ""


def augment_schedule(family_name: str, settings: Settings) -> str:
    """The test-time augmentation for a family: a name in ``augment.SCHEDULES``."""
    schedules = FAMILY_TABLE[family_name].schedules
    if settings.smooth == "strong":
        return schedules.strong
    if settings.smooth == "off" or not settings.smooth_strength:
        return "plain"
    # Of views that alternate from key frame to key frame, the filter's window has few rounds;
    # ``auto`` takes two of each.
    has_few_rounds = settings.smooth == "live" or settings.pace not in ("auto", "every", "1")
    return schedules.live if has_few_rounds else schedules.on


def load_network(
    path: Path,
    family: Family | str,
    settings: Settings,
    device: Device,
    report: Callable[[str], None] = lambda _: None,
) -> Network:
    """Load the weights at ``path`` as a network of the family.

    family: its row, or the row's name. report: takes a line for the user, while the network runs.
    Raises ModelError for a file that does not fit the family, DeviceError, UsageError.
    """
    family = FAMILY_TABLE[family] if isinstance(family, str) else family
    if family.size is None:
        return _load_recurrent(path, family, settings, device, report)
    return _load_segmentation(path, family, settings, device, report)


def _load_recurrent(
    path: Path,
    family: Family,
    settings: Settings,
    device: Device,
    report: Callable[[str], None],
) -> Network:
    """A recurrent network; with several devices, a copy on each."""
    from vidmatte.models.runtimes.multi_gpu import ShotDistributor
    from vidmatte.models.runtimes.onnx_loader import load_recurrent
    from vidmatte.models.rvm import RecurrentNetwork

    networks: list[RecurrentNetwork] = []
    for part in device.parts or (device,):
        loaded, finish = load_recurrent(path, part, settings.threads, family, settings.runtime)
        if isinstance(part, TorchDevice):
            from vidmatte.models.torch_recurrent import DeviceRecurrent

            half = _half_runner(path, part, settings, report, outputs=None)
            networks.append(
                DeviceRecurrent(
                    loaded.runner,
                    family,
                    settings.downsample,
                    device=part,
                    half=half,
                    report=report,
                )
            )
            continue
        networks.append(RecurrentNetwork(loaded.runner, family, settings.downsample, finish))
    return ShotDistributor(networks) if len(networks) > 1 else networks[0]


def _load_segmentation(
    path: Path,
    family: Family,
    settings: Settings,
    device: Device,
    report: Callable[[str], None],
) -> Network:
    """A per-frame network; several devices share the frames."""
    from vidmatte.models.runtimes.multi_gpu import BatchDistributor, SharedRunner
    from vidmatte.models.runtimes.onnx_file import check_alpha, input_size
    from vidmatte.models.runtimes.onnx_loader import load_runner

    batch = settings.batch or family.default_batch or device.default_batch
    parts = device.parts or (device,)
    copies = [
        load_runner(
            path,
            part,
            settings.threads,
            outputs=1,
            runtime=settings.runtime,
            bfloat16=family.bfloat16,
            batch=batch,
            report=report,
        )
        for part in parts
    ]
    loaded = copies[0]
    size = input_size(path, loaded.inputs, family)
    check_alpha(path, loaded.outputs, family)
    runners = [copy.runner for copy in copies]
    made = partial(
        _network_on,
        path,
        settings,
        next(iter(loaded.outputs)),
        report,
        family=family,
        size=size,
        input_name=next(iter(loaded.inputs)),
        batch=batch,
        schedule=augment_schedule(family.name, settings),
    )
    if len(parts) == 1:
        return made(device, runners[0])
    if not _stays_on(parts[0], settings):
        return made(device, SharedRunner(runners))
    return BatchDistributor([made(part, one) for part, one in zip(parts, runners, strict=True)])


def _stays_on(device: Device, settings: Settings) -> bool:
    """Whether pictures and alphas of a per-frame network stay on the device. Lanczos resizing and
    8 bits in between, as ``--normalize rembg`` wants them, are for the CPU."""
    return isinstance(device, TorchDevice) and settings.normalize != "rembg"


def _network_on(
    path: Path,
    settings: Settings,
    output: str,
    report: Callable[[str], None],
    device: Device,
    runner: Runner,
    **how: Any,
) -> SegmentationNetwork:
    """A per-frame network on one device. output: the name of its alpha. how: see the class."""
    from vidmatte.models.segmentation import SegmentationNetwork

    how |= {"minmax": settings.normalize == "minmax"}
    if not isinstance(device, TorchDevice) or not _stays_on(device, settings):
        return SegmentationNetwork(runner, as_rembg=settings.normalize == "rembg", **how)
    from vidmatte.models.torch_networks import DeviceSegmentation

    half = _half_runner(path, device, settings, report, outputs=1)
    return DeviceSegmentation(
        runner, device=device, output_name=output, half=half, report=report, **how
    )


def _half_runner(
    path: Path,
    device: TorchDevice,
    settings: Settings,
    report: Callable[[str], None],
    *,
    outputs: int | None,
) -> Runner | None:
    """The network in half precision; None, with a line for the user, where that does not work.
    outputs: see ``load_runner``."""
    from vidmatte.models.runtimes.onnx_loader import load_runner

    if not device.computes_half:
        return None
    try:
        found = load_runner(
            path, device, settings.threads, outputs=outputs, runtime=settings.runtime, half=True
        )
    except (ModelError, DeviceError) as error:
        report(f"{path.name} is computed in float32: {error}")
        return None
    return found.runner
