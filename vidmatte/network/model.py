"""From what the user calls a model to a network that is ready to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vidmatte.errors import ModelError, UsageError
from vidmatte.network import check_options, load_network
from vidmatte.network.base import Network
from vidmatte.network.device import Device, choose_device
from vidmatte.settings import Settings


@dataclass(frozen=True)
class Model:
    """A loaded model: its name, its file, where it runs, and the network itself."""

    name: str
    family: str
    path: Path
    device: Device
    network: Network


def load_model(settings: Settings, report: Callable[[str], None], *, quiet: bool = True) -> Model:
    """Fetch the weights where need be, and load them.

    ``report`` is given what the user should know, a line at a time. Raises ModelError,
    WeightsError, DeviceError, UsageError.
    """
    device, note = choose_device(settings.device)  # before hundreds of megabytes are fetched
    name, family, path = find_weights(settings, report, quiet)
    if note:
        report(note)
    return Model(name, family, path, device, load_network(path, family, settings, device))


def find_weights(
    settings: Settings, report: Callable[[str], None], quiet: bool
) -> tuple[str, str, Path]:
    """Name, family and file of the model that the settings ask for."""
    from vidmatte.weights.catalogue import lookup
    from vidmatte.weights.store import Store

    wanted = settings.model
    own = Path(wanted)
    if own.suffix.lower() != ".onnx":
        if settings.family is not None:
            raise UsageError(f"--family {settings.family} is for an .onnx file of your own")
        entry = lookup(wanted)
        check_options(entry.family, settings)
        folder = Path(settings.models_dir) if settings.models_dir else None
        return entry.name, entry.family, Store(folder).ensure(entry, report=report, quiet=quiet)
    if not own.is_file():
        raise ModelError(f"{own}: there is no such file; 'vidmatte models' lists the names")
    if settings.family is None:
        raise UsageError(
            f"{own.name}: say how it is fed with --family isnet, u2net, isnet-anime,"
            " birefnet or rvm"
        )
    return own.name, settings.family, own
