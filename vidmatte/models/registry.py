"""From a model's name to a network that is ready to run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vidmatte._version import __version__
from vidmatte.core.families import AUTO, AUTO_PARTS, FAMILY_TABLE, WEIGHTLESS, shared_profile
from vidmatte.core.frame import Clip
from vidmatte.core.stored import key_of
from vidmatte.errors import DeviceError, UsageError
from vidmatte.models.base import Network, SharedNetwork
from vidmatte.models.chosen_weights import Weights, resolve_weights
from vidmatte.models.load import augment_schedule, check_options, load_network, why_every_frame
from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.openvino import runtime_name
from vidmatte.models.runtimes.torch_device import choose_device
from vidmatte.models.weights.catalogue import Entry
from vidmatte.models.weights.licences import check_acceptance
from vidmatte.models.weights.record import read_record
from vidmatte.models.weights.store import Store
from vidmatte.settings import RAW_ALPHA, Settings, names_of

#: The options that, with source, weights and augmentation, determine the raw alpha of a frame.
RAW_ALPHA_OPTIONS = names_of(Settings, decides=RAW_ALPHA)


@dataclass
class Model:
    """A model whose weights are fetched; its network is loaded on first use.

    Where ``auto`` chose a GPU whose libraries then fail, ``device`` becomes the CPU, which
    ``report`` gets as one line.
    """

    weights: tuple[Weights, ...]
    device: Device
    settings: Settings
    report: Callable[[str], None]

    @property
    def name(self) -> str:
        """Its name for the user: 'isnet', or 'isnet+rvm' for two networks."""
        return "+".join(part.name for part in self.weights)

    @cached_property
    def network(self) -> Network:
        """The network, loaded. Raises ModelError, DeviceError, UsageError."""
        try:
            return self._load()
        except DeviceError as error:
            if self.settings.device != "auto" or self.device.name == "cpu":
                raise
            self.report(f"running on the CPU: {error}")
            self.device = Device()
            return self._load()

    def hash_weights(self) -> None:
        """Read the weights' files for their checksums now: at the end of a run they may be gone."""
        for part in self.weights:
            _ = part.sha256

    def per_frame_network(self) -> Network | None:
        """Its first network that takes single pictures, loaded; None where it has none."""
        part = next((one for one in self.weights if one.fed_as.size is not None), None)
        if part is None or len(self.weights) == 1:
            return None if part is None else self.network
        return self._load_part(part)

    def unload(self) -> None:
        """Free the network's memory; the next use loads it again."""
        vars(self).pop("network", None)

    def _load(self) -> Network:
        networks = [self._load_part(part) for part in self.weights]
        if len(networks) == 1:
            return networks[0]
        from vidmatte.models.ensemble import CombinedNetwork

        return CombinedNetwork(networks[0], networks[1], self.settings.combine)

    def _load_part(self, part: Weights) -> Network:
        settings = self._settings_for(part)
        if part.path is None:
            from vidmatte.models.keyer.network import load_keyer

            return load_keyer(part.family, settings, self.report)
        return load_network(part.path, part.fed_as, settings, self.device, self.report)

    def shared(self) -> Model:
        """The same model for several jobs at once; see ``SharedNetwork``."""
        shared = replace(self)
        shared.__dict__["network"] = SharedNetwork(self.network)
        return shared

    def network_for(
        self,
        clip: Clip,
        cache: Path | None = None,
        paced: Callable[[Network], Network] | None = None,
    ) -> Network:
        """The network for a clip: from the cache where its alphas are stored, else loaded.

        cache: a folder to use as ``--cache`` where the settings name none. paced: makes the
        network run on some of the frames only.
        """
        if cache is None and self.settings.cache is not None:
            cache = Path(self.settings.cache).expanduser()
        if cache is None:
            return self.network if paced is None else paced(self.network)
        from vidmatte.models.alpha_cache import (
            CachedNetwork,
            RecordingNetwork,
            cache_file,
            check_writable,
            is_complete,
        )

        folder, key = cache, self.cache_key(clip)
        cached = cache_file(folder, key)
        if cached is not None and not is_complete(cached, (clip.width, clip.height)):
            self.report(f"--cache {folder}: the cached alphas are damaged: recomputing")
            cached.unlink()
            cached = None
        if cached is not None:
            rows = [part.fed_as for part in self.weights]
            recurrent = all(row.recurrence is not None for row in rows)
            profile = shared_profile(row.filter_profile for row in rows)
            return CachedNetwork(cached, recurrent, profile)
        check_writable(folder)
        chosen, network = self.device, self.network
        if self.device is not chosen:  # another runtime may be preferred on the CPU
            return self.network_for(clip, cache, paced)
        return RecordingNetwork(network if paced is None else paced(network), folder, key)

    def cache_key(self, clip: Clip) -> str:
        """The key of a clip's raw alphas in the cache."""
        facts: dict[str, Any] = {name: getattr(self.settings, name) for name in RAW_ALPHA_OPTIONS}
        facts["runtime"] = self.runtimes
        facts["looks"] = self._schedules
        facts["version"] = __version__
        facts["source"] = clip.source.identity_for("--cache")
        facts["weights"] = [(part.family, part.sha256) for part in self.weights]
        if self.settings.clean_plate is not None:
            state = Path(self.settings.clean_plate).stat()
            facts["plate"] = [state.st_size, state.st_mtime_ns]
        return key_of(facts)

    @property
    def runtimes(self) -> list[str]:
        """The runtime and precision of each network. Raises DeviceError.

        ``auto`` may choose another after a package was installed, or on another CPU.
        """
        return [
            runtime_name(self._runtime_for(part), part.fed_as.bfloat16, self.device)
            for part in self.weights
        ]

    def _runtime_for(self, part: Weights) -> str:
        """``--runtime`` of one network, as measured where that is ``auto``."""
        is_measured = self.settings.runtime == "auto" and self.device.name == "cpu"
        return part.runtime if is_measured and part.runtime else self.settings.runtime

    @property
    def alternates_views(self) -> bool:
        """Whether each frame gets one of four views of the test-time augmentation in turn."""
        return {*self._schedules} == {"four"}

    @property
    def _schedules(self) -> list[str]:
        return [augment_schedule(part.family, self._settings_for(part)) for part in self.weights]

    def _settings_for(self, part: Weights) -> Settings:
        """The settings that apply to one network."""
        runtime = self._runtime_for(part)
        settings = self.settings
        if runtime != settings.runtime:
            settings = settings.changed(runtime=runtime)
        if len(self.weights) == 1:
            return settings
        if part.fed_as.recurrence is not None:
            return settings.changed(batch=0, smooth="on", normalize="clip", like=None)
        return settings.changed(downsample=0.0)


@dataclass(frozen=True)
class ModelChoice:
    """The chosen model, checked, before anything is fetched or loaded.

    parts: one network, or two joined by +. note: a line on the device for the user, if any.
    """

    parts: tuple[Weights | Entry, ...]
    device: Device
    note: str | None
    settings: Settings

    @property
    def store(self) -> Store:
        """The store of the weights. Raises WeightsError."""
        return _store_of(self.settings)

    @property
    def missing_bytes(self) -> int:
        """Bytes of the weights that are not in the store yet."""
        store, entries = self.store, [part for part in self.parts if isinstance(part, Entry)]
        return sum(one.size_bytes for one in entries if not os.path.exists(store.path(one)))  # noqa: PTH110

    def fetch(self, report: Callable[[str], None], *, quiet: bool = True) -> Model:
        """The model, its weights fetched if missing. report: takes lines for the user. Raises
        WeightsError."""
        if self.note:
            report(self.note)
        store, accepted = self.store, self.settings.accept_licence
        weights = [_fetch_weights(part, store, report, quiet, accepted) for part in self.parts]
        if self.settings.runtime == "auto" and self.device.name == "cpu":
            say = (lambda _: None) if quiet else report
            weights = [part.with_runtime(say) for part in weights]
        return Model(tuple(weights), self.device, self.settings, report)


def find_model(settings: Settings, report: Callable[[str], None], *, quiet: bool = True) -> Model:
    """The model that the settings ask for, its weights fetched if missing. See
    ``choose_model`` and ``ModelChoice.fetch``."""
    return choose_model(settings).fetch(report, quiet=quiet)


def choose_model(settings: Settings) -> ModelChoice:
    """Check the settings: names and files exist, the options have an effect, the device can be
    used, the cache is a folder. Nothing is fetched, loaded or written.

    Raises ModelError, DeviceError, UsageError.
    """
    device, note = choose_device(settings.device)  # before hundreds of megabytes are fetched
    if settings.model == AUTO:
        if settings.combine != "edges":
            raise UsageError(f"--combine {settings.combine}: --model auto has its own: omit it")
        settings = settings.changed(model="+".join(AUTO_PARTS), combine=AUTO)
    names = [settings.model] if Path(settings.model).is_file() else settings.model.split("+")
    if len(names) > 2:
        raise UsageError(f"--model {settings.model}: two models at most")
    if not all(names):
        raise UsageError(
            f"--model '{settings.model}': a name is missing: write one model, or two as in"
            " isnet+rvm ('vidmatte models' lists them)"
        )
    parts = [resolve_weights(name, settings) for name in names]
    if len(parts) == 2 and parts[0].family in WEIGHTLESS:  # it refines what the other one found
        parts.reverse()
    _check_has_effect([part.family for part in parts], settings)
    _check_licences([part for part in parts if isinstance(part, Entry)], settings)
    if settings.family is not None and not any(isinstance(part, Weights) for part in parts):
        raise UsageError(f"--family {settings.family} is for an .onnx file of your own")
    if settings.cache is not None:
        from vidmatte.models.alpha_cache import check_folder

        check_folder(Path(settings.cache).expanduser())
    return ModelChoice(tuple(parts), device, note, settings)


def _check_licences(entries: list[Entry], settings: Settings) -> None:
    """Raise UsageError for weights whose licence must be accepted first, and for an acceptance
    that has no effect."""
    named = settings.accept_licence
    if named is not None:
        check_acceptance(named, entries)
    asking = [one for one in entries if one.needs_acceptance]
    if asking:
        store = _store_of(settings)
        for entry in asking:
            store.accepted_at(entry, named)


def _check_has_effect(families: list[str], settings: Settings) -> None:
    """Raise UsageError for an option that has no effect on models of these families."""
    if len(families) == 1:
        if settings.combine != "edges":
            raise UsageError(f"--combine {settings.combine}: it needs two models, as in isnet+rvm")
        check_options(families[0], settings)
    from vidmatte.models.keyer.network import check_keyer

    check_keyer(families, settings)
    rows = [FAMILY_TABLE[name] for name in families]
    if settings.pace not in ("auto", "every") and (reason := why_every_frame(families, settings)):
        raise UsageError(f"--pace {settings.pace}: {reason}: omit --pace")
    if settings.downsample and not any(row.has_coarse_pass for row in rows):
        raise UsageError(
            f"--downsample {settings.downsample:g} is for recurrent models with a coarse pass,"
            " like rvm"
        )
    if settings.combine == AUTO and any(row.weightless for row in rows):
        raise UsageError(f"--combine {AUTO}: it is for two networks, as in isnet+rvm")
    gives = settings.combine != AUTO and any(row.gives_foreground for row in rows)
    if settings.foreground == "model" and not gives:
        raise UsageError("--foreground model: this model gives none; use --foreground estimate")


def _store_of(settings: Settings) -> Store:
    """The store of the weights. Raises WeightsError."""
    return Store(Path(settings.models_dir) if settings.models_dir else None)


def _fetch_weights(
    part: Weights | Entry,
    store: Store,
    report: Callable[[str], None],
    quiet: bool,
    accepted: str | None,
) -> Weights:
    """The weights of a part, fetched into the store if missing."""
    if isinstance(part, Weights):
        return part
    path = store.ensure(part, report=report, quiet=quiet, accepted=accepted)
    return Weights(part.name, part.family, path, read_record(path))
