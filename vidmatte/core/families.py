"""How each family of networks is fed and read, as its authors trained it.

It lies beside the table of options, which names the families, so that nothing heavy is
imported for that.
"""

from __future__ import annotations

from dataclasses import dataclass

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Family:
    """A salient network's input and output.

    size: side of its square input in pixels. mean, std: of RGB in 0..1.
    logits: the first output needs a sigmoid; else it is one already.
    takes_turns: its mattes gain where frames are shown to it in turns (see ``augment``);
    measured on composites with known alpha. U2-Netp's flicker more, the others were not
    measured.
    """

    name: str
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    logits: bool = False
    alternates_views: bool = False


SEGMENTATION = {
    family.name: family
    for family in (
        Family("isnet", 1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), alternates_views=True),
        Family("u2net", 320, _IMAGENET_MEAN, _IMAGENET_STD),
        Family("isnet-anime", 1024, _IMAGENET_MEAN, (1.0, 1.0, 1.0)),
        Family("birefnet", 1024, _IMAGENET_MEAN, _IMAGENET_STD, logits=True),
    )
}
RECURRENT = ("rvm",)
FAMILIES = (*SEGMENTATION, *RECURRENT)
