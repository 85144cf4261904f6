"""The catalogue: names resolve, files can be checked, families exist."""

from __future__ import annotations

import re

import pytest

from vidmatte.errors import ModelError
from vidmatte.models.weights.catalogue import CATALOGUE, Entry, lookup
from vidmatte.models.weights.record import Fingerprint, identify
from vidmatte.models.weights.sources import ReleaseFile
from vidmatte.settings import Settings, options_of

KNOWN = [
    "isnet",
    "u2netp",
    "rvm",
    "u2net",
    "u2net_human_seg",
    "silueta",
    "isnet-anime",
    "birefnet-general",
    "birefnet-general-lite",
    "birefnet-portrait",
    "birefnet-hrsod",
    "birefnet-massive",
    "rvm-resnet50",
    "birefnet-dis",
    "birefnet-cod",
    "bria-rmbg",
    "u2net_cloth_seg",
]


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_name_resolves(name: str) -> None:
    assert lookup(name).name == name
    assert lookup(name.upper()).name == name


@pytest.mark.parametrize(
    ("alias", "name"), [("isnet-general-use", "isnet"), ("rvm-mobilenetv3", "rvm")]
)
def test_other_tools_names_resolve(alias: str, name: str) -> None:
    assert lookup(alias).name == name


def test_names_and_files_are_unique() -> None:
    names = [name for entry in CATALOGUE for name in (entry.name, *entry.aliases)]
    files = [entry.file_name for entry in CATALOGUE]
    assert sorted(set(names)) == sorted(names)
    assert sorted(set(files)) == sorted(files)
    assert sorted(entry.name for entry in CATALOGUE) == sorted(KNOWN)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_every_source_can_be_checked(entry: Entry) -> None:
    assert entry.sources
    assert entry.licence
    for source in entry.sources:
        assert source.accepts, source.describe()
        for one in source.accepts:
            assert one.size_bytes > 1_000_000
            assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", one.digest)
        if isinstance(source, ReleaseFile):
            assert source.url.startswith("https://")
            assert source.url.endswith(f"/{entry.file_name}")


def test_families_are_those_of_the_option() -> None:
    """MODNet and BEN2 have no file with a published digest: their families are for own files."""
    families = {entry.family for entry in CATALOGUE} | {"modnet", "ben2"}
    assert families == set(options_of(Settings)["family"].choices)


def test_the_default_model_has_both_published_files() -> None:
    entry = lookup(Settings().model)
    assert [one.size_bytes for one in entry.fingerprints] == [178_648_008, 88_188_479]
    assert entry.sha256 is not None
    assert entry.md5 == "fc16ebd8b0c10d971d3513d564d01e29"


@pytest.mark.parametrize(
    ("wrong", "near"), [("isnett", "isnet"), ("birefnet-portait", "birefnet-portrait")]
)
def test_an_unknown_name_suggests_similar_ones(wrong: str, near: str) -> None:
    with pytest.raises(ModelError, match=f"'{wrong}': did you mean.* {near}") as caught:
        lookup(wrong)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_a_name_unlike_all_others_gets_no_suggestion() -> None:
    with pytest.raises(ModelError, match="'qqq': 'vidmatte models' lists all"):
        lookup("qqq")


def test_a_fingerprint_without_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        Fingerprint(10)


def test_identify_uses_md5_only_without_a_sha256(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    md5 = "900150983cd24fb0d6963f7d28e17f72"
    right, by_md5 = Fingerprint(3, sha256), Fingerprint(3, md5=md5)
    assert identify(path, [Fingerprint(4, sha256)]) is None
    assert identify(path, [Fingerprint(3, "0" * 64), right]) == right
    assert identify(path, [by_md5]) == by_md5
    assert identify(path, [Fingerprint(3, "0" * 64, md5)]) is None, "a wrong SHA-256 decides"
