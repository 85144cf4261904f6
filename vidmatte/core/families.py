"""How each family of networks is fed and how its output is read, as its authors trained it.

Everything family-specific is in its row: no other module checks a family's name.
The table provides the choices of ``--family``, so nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class InputSize:
    """The size of a network's input picture.

    side: of a square, in pixels; without ``is_square``, the shorter side of a picture
    with the frame's aspect ratio. multiple: both sides are rounded to a multiple of it.
    """

    side: int
    is_square: bool = True
    multiple: int = 1

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the input for a frame of ``width`` x ``height`` pixels."""
        if self.is_square:
            return self.side, self.side
        scale = self.side / (min(width, height) * self.multiple)
        across, down = (max(1, round(length * scale)) for length in (width, height))
        return across * self.multiple, down * self.multiple


@dataclass(frozen=True)
class State:
    """One recurrent state tensor, by the names of its input and its output.

    At the start of a shot it is zeros, (1, channels, h, w): h and w are the frame's height and
    width divided by ``stride``, rounded up; with stride 0 both are 1, and the network
    broadcasts them.
    """

    input: str
    output: str
    channels: int = 1
    stride: int = 0

    def first_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The shape at the start of a shot of frames of ``width`` x ``height`` pixels."""
        if not self.stride:
            return 1, self.channels, 1, 1
        return 1, self.channels, -(-height // self.stride), -(-width // self.stride)


@dataclass(frozen=True)
class CoarsePass:
    """A first pass over the downsampled frame, whose scale is an input of the network.

    input: the name of that input, the ratio of the sizes in 0..1. side: default length of the
    longer side in pixels. least_side: minimum length of the shorter side in pixels.
    """

    input: str
    side: int
    least_side: int

    def ratio(self, width: int, height: int, requested: float = 0.0) -> float:
        """The scale of the pass relative to the frame: ``requested``, or by ``side``; at most 1,
        except for a strip that would become too narrow."""
        ratio = requested or min(1.0, self.side / max(width, height))
        return max(ratio, self.least_side / min(width, height))


@dataclass(frozen=True)
class Recurrence:
    """The inputs and outputs of a recurrent network, by name.

    picture: (1, 3, H, W), the frame. alpha: (1, 1, H, W). foreground: (1, 3, H, W), R'G'B' in
    0..1; None where the network gives none.
    splits: on the CPU its graph is split in two, see ``models.runtimes.graph_split``; only for
    networks whose input is plain R'G'B' in 0..1 and whose alpha is in 0..1.
    features: tensors inside the network that describe what a place looks like and do not depend
    on the state, finest first; empty where none are known.
    """

    states: tuple[State, ...]
    picture: str
    alpha: str
    foreground: str | None = None
    coarse: CoarsePass | None = None
    splits: bool = False
    features: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """All inputs."""
        coarse = () if self.coarse is None else (self.coarse.input,)
        return (self.picture, *(state.input for state in self.states), *coarse)

    @property
    def results(self) -> tuple[str, ...]:
        """The outputs that are not states."""
        return (self.alpha,) if self.foreground is None else (self.foreground, self.alpha)

    @property
    def state_outputs(self) -> tuple[str, ...]:
        """The outputs that are fed back."""
        return tuple(state.output for state in self.states)


@dataclass(frozen=True)
class _AugmentSchedules:
    """The test-time augmentation by ``--smooth``: names in ``augment.SCHEDULES``.

    Alternating views help where the temporal filter averages them and the network's errors
    differ between them. They help IS-Net, measured on composites with known alpha; U2-Netp
    flickers more with them; the other families were not measured.
    """

    on: str = "plain"
    live: str = "plain"
    strong: str = "both"


@dataclass(frozen=True)
class FilterProfile:
    """The parameters of the temporal filter for a kind of network.

    far_reach: coarse pixels of motion at which a frame more than ``track.NEAR`` away has
    weight exp(-1): motion errors accumulate, while in a still scene many frames show the
    same. redrawn: share of the second edge refinement. black, white: levels after
    the average. decides: whether grey regions are resolved to 0 or 1.
    """

    far_reach: float
    redrawn: float
    black: float
    white: float
    decides: bool


PER_FRAME = FilterProfile(far_reach=20.0, redrawn=0.5, black=0.02, white=0.98, decides=True)
RECURRENT = FilterProfile(far_reach=6.0, redrawn=0.25, black=0.005, white=0.94, decides=False)


def shared_profile(profiles: Iterable[FilterProfile]) -> FilterProfile:
    """Their common profile; where they differ, that of per-frame networks."""
    different = {*profiles}
    return different.pop() if len(different) == 1 else PER_FRAME


@dataclass(frozen=True)
class Family:
    """One row: a family's input, output, state and defaults.

    size: of the input picture; None: the frame's size.
    mean, std: of R'G'B' in 0..1. logits: whether its output needs a sigmoid to become alpha.
    class_count: for a network that tells classes apart, their number C: its output is (B, C, H, W)
    logits, and alpha is the share of those in ``subject_classes``, counted from 0, in their
    softmax; 0: its output is one alpha.
    recurrence: None for per-frame networks.
    bfloat16: in bfloat16 its alpha stays within 1/255 of float32's on average, so that
    OpenVINO is the preferred runtime on CPUs with bfloat16.
    default_batch: frames per run without ``--batch``; 0: the device's default.
    weightless: computed by ``models.keyer``, from no weights and of the frame's own size.
    """

    name: str
    size: InputSize | None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    logits: bool = False
    class_count: int = 0
    subject_classes: tuple[int, ...] = ()
    recurrence: Recurrence | None = None
    bfloat16: bool = False
    default_batch: int = 0
    schedules: _AugmentSchedules = _AugmentSchedules()
    filter_profile: FilterProfile = PER_FRAME
    weightless: bool = False

    def __post_init__(self) -> None:
        if (self.size is None) != (self.recurrence is not None) and not self.weightless:
            raise ValueError(f"{self.name}: a recurrent network takes the frame at its own size")
        is_plain = not any(self.mean) and set(self.std) == {1.0} and not self.logits
        if self.recurrence is not None and self.recurrence.splits and not is_plain:
            raise ValueError(f"{self.name}: only a network with plain R'G'B' input can be split")
        if not {*self.subject_classes} <= {*range(self.class_count)}:
            raise ValueError(f"{self.name}: its classes are 0 to {self.class_count - 1}")

    @property
    def gives_foreground(self) -> bool:
        """Whether the network gives the subject's colours beside its alpha."""
        return self.recurrence is not None and self.recurrence.foreground is not None

    @property
    def has_coarse_pass(self) -> bool:
        """Whether ``--downsample`` has an effect."""
        return self.recurrence is not None and self.recurrence.coarse is not None


_ROWS = (
    Family(
        "isnet",
        InputSize(1024),
        (0.5, 0.5, 0.5),
        bfloat16=True,
        # Without look-ahead, each of four views occurs too rarely to be averaged.
        schedules=_AugmentSchedules(on="four", live="two"),
    ),
    Family("u2net", InputSize(320), _IMAGENET_MEAN, _IMAGENET_STD, bfloat16=True),
    Family("isnet-anime", InputSize(1024), _IMAGENET_MEAN, bfloat16=True),
    Family("birefnet", InputSize(1024), _IMAGENET_MEAN, _IMAGENET_STD, logits=True),
    # MODNet keeps the aspect ratio: its authors reduce the shorter side to 512.
    # https://github.com/ZHKKKe/MODNet
    Family("modnet", InputSize(512, is_square=False, multiple=32), _HALF, _HALF),
    # Its exported graph divides one picture into patches. https://github.com/PramaLLC/BEN2
    Family("ben2", InputSize(1024), _IMAGENET_MEAN, _IMAGENET_STD, default_batch=1),
    # A BiRefNet whose exported file ends in a sigmoid.
    Family("bria", InputSize(1024), _IMAGENET_MEAN, _IMAGENET_STD),
    # Background, upper body, lower body, full body: the subject is all clothes.
    # https://github.com/levindabhi/cloth-segmentation
    Family(
        "cloth",
        InputSize(768),
        _IMAGENET_MEAN,
        _IMAGENET_STD,
        class_count=4,
        subject_classes=(1, 2, 3),
    ),
    # Its alpha is inaccurate in bfloat16; in float32 onnxruntime is the faster runtime.
    Family(
        "rvm",
        None,
        recurrence=Recurrence(
            states=tuple(State(f"r{number}i", f"r{number}o") for number in range(1, 5)),
            picture="src",
            alpha="pha",
            foreground="fgr",
            # The paper recommends sides of 256 to 512 pixels. Four halvings need 5; one more, as
            # the network rounds sizes down.
            coarse=CoarsePass("downsample_ratio", side=512, least_side=6),
            splits=True,
            features=("420", "464", "540"),
        ),
        schedules=_AugmentSchedules(strong="plain"),
        filter_profile=RECURRENT,
    ),
)
_KEYERS = (Family("chroma", None, weightless=True), Family("difference", None, weightless=True))
#: The rows by name; ``FAMILIES`` are the names of those with weights, in order.
FAMILY_TABLE = {row.name: row for row in (*_ROWS, *_KEYERS)}
FAMILIES = tuple(row.name for row in _ROWS)
WEIGHTLESS = tuple(row.name for row in _KEYERS)
#: The model that is two networks, joined by ``--combine auto``, and these.
AUTO, AUTO_PARTS = "auto", ("isnet", "rvm")
