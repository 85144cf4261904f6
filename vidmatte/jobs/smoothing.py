"""The temporal filter of a run and the controls after it, by its settings, network and clip.

With ``--device cuda`` both work there, whatever gives the alphas: those of a network that leaves
them on the device stay, all others are uploaded (``on_device``). Between two steps on the device,
these stay on the CPU, and the alpha comes to host memory for them and goes back:
- a chosen subject (``--subject``) and a trimap: their fields and masks come from files and OpenCV;
- ``--refine best``: sparse equations, which take longer than both copies;
- controls that follow regions or a mask from a file; where one is set, all controls;
- motion, at its coarse size, from the frames' greys and a coarse alpha: no optical flow of torch's.
With several GPUs, frames are filtered on the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vidmatte.alpha.masks import adjusted_frames
from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.alpha.track import WINDOWS
from vidmatte.core.concurrency import usable_cores
from vidmatte.core.families import PER_FRAME, FilterProfile
from vidmatte.core.frame import Clip, Frame
from vidmatte.errors import UsageError
from vidmatte.jobs.queue import Slot
from vidmatte.models.base import Network
from vidmatte.models.registry import Model
from vidmatte.models.runtimes.onnx_file import check_numbers
from vidmatte.models.runtimes.torch_device import DeviceFrame, TorchDevice
from vidmatte.settings import Settings

Frames = Iterator[Frame]

LONGEST_SIDE = 32766  # pixels: the limit of cv2.remap, whose coordinates have 16 bits
_MOST_THREADS = 4  # of each half; with eight cores no half holds up the other stages
_SLOTS_A_THREAD = 8  # of the frame memory's, for each frame that is under way in the filter


def temporal_filter_for(
    recurrent: bool, settings: Settings, profile: FilterProfile = PER_FRAME
) -> TemporalFilter:
    """The temporal filter and edge refinement that the settings ask for.

    profile: what suits the network, see ``Network.filter_profile``.

    A recurrent model has stable alphas and sharp edges by itself: 'auto' applies
    neither to it.
    """
    mode = settings.smooth
    if mode == "auto":
        mode = "off" if recurrent else "on"
    refine = settings.refine
    if refine == "auto":
        refine = "off" if recurrent and mode == "off" else "fast"
    strength = settings.smooth_strength
    mode = mode if strength else "off"
    return TemporalFilter(WINDOWS[mode], refine, strength, profile)


def filter_threads(clip: Clip, settings: Settings) -> int:
    """Frames that each half of the temporal filter works on at once.

    One up to three cores: the other stages use the rest. More where there are more cores, as
    far as a part of ``--memory`` has room for the frames that are then under way.
    """
    cores = settings.threads or usable_cores()
    room = settings.memory_bytes // Slot.size_of(clip) // _SLOTS_A_THREAD
    return max(1, min(_MOST_THREADS, cores // 2, room))


def _check_sides(clip: Clip, smooth: TemporalFilter) -> None:
    """Raise UsageError for frames too large for the temporal filter, which uses cv2.remap."""
    sides = clip.width, clip.height
    if max(sides) > LONGEST_SIDE and smooth.look_back and clip.frame_count != 1:
        raise UsageError(
            f"{clip.source.name}: {sides[0]}x{sides[1]} exceeds the temporal filter's limit of"
            f" {LONGEST_SIDE} pixels a side: add --smooth off"
        )


def filter_of(
    network: Network, clip: Clip, settings: Settings, model: Model
) -> tuple[TemporalFilter, TorchDevice | None]:
    """The temporal filter of a run, and the device on which frames are finished; None for the CPU.

    model: whose network it is; it reports what is not done on a device. Raises UsageError.
    """
    smooth = temporal_filter_for(network.recurrent, settings, network.filter_profile)
    smooth = replace(smooth, threads=filter_threads(clip, settings))
    _check_sides(clip, smooth)
    first = (model.device.parts or (model.device,))[0]
    if not isinstance(first, TorchDevice):
        return smooth, None
    if steps := _steps_on_cpu(settings):
        model.report(f"{first.name}: on the CPU, between two copies: {', '.join(steps)}")
    from vidmatte.alpha.torch_filter import DeviceFilter

    return DeviceFilter.like(smooth, first), first


def _steps_on_cpu(settings: Settings) -> list[str]:
    """The options that take a step on the CPU where the rest of a run is on a device."""
    is_set = {
        "--subject": settings.has_subject,
        "--trimap": settings.trimap is not None,
        "--refine best": settings.refine == "best",
        "--despill": settings.despill is not None,
        "--garbage-matte": settings.garbage_matte is not None,
        "--holdout": settings.holdout is not None,
        "--keep-largest": settings.keep_largest,
        "--remove-specks": bool(settings.remove_specks),
        "--fill-holes": bool(settings.fill_holes),
    }
    return [name for name, is_there in is_set.items() if is_there]


def kept_on(frames: Frames, network: Network, device: TorchDevice | None) -> Frames:
    """The frames, each asking the network to leave its alpha on the device where it can."""
    if device is None or network.keeps_on is None:
        return frames
    return _asking(frames, device)


def _asking(frames: Frames, device: TorchDevice) -> Frames:
    for frame in frames:
        frame.on_device = DeviceFrame(device)
        yield frame


def on_device(frames: Frames, device: TorchDevice | None) -> Frames:
    """The frames with their alpha on the device and nowhere else; unchanged without one."""
    return frames if device is None else _lifted(frames, device)


def _lifted(frames: Frames, device: TorchDevice) -> Frames:
    for frame in frames:
        pixels = (frame.on_device or DeviceFrame(device)).moved_to(device)
        pixels.lift(frame.alpha, frame.foreground)
        frame.on_device, frame.alpha = pixels, None
        yield frame


def on_host(frames: Frames, device: TorchDevice | None) -> Frames:
    """The frames with their alpha in host memory and nowhere else; unchanged without a device.
    Raises ModelError."""
    return frames if device is None else _lowered(frames)


def _lowered(frames: Frames) -> Frames:
    for frame in frames:
        frame.to_host()
        check_numbers(frame)
        if frame.on_device is not None:
            frame.on_device.alpha = None
        yield frame


def finished_alphas(
    frames: Frames,
    settings: Settings,
    clip: Clip,
    device: TorchDevice | None,
    *,
    stays: bool,
) -> Frames:
    """The frames after all controls, their alpha in host memory.

    device: where frames are finished, see ``filter_of``. stays: see ``downloaded_frames``. Raises
    UsageError, SourceError, ModelError.
    """
    if device is None:
        return adjusted_frames(frames, settings, clip)
    from vidmatte.alpha.torch_adjust import downloaded_frames

    return downloaded_frames(frames, settings, clip, device, stays=stays)
