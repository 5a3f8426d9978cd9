"""Random changes of training pictures, the same for image and mask; off by default, as in the paper."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

from mshnet_pl.episode import MEAN
from mshnet_pl.errors import ConfigError
from mshnet_pl.options import UNKNOWN

_AUGMENT = 2  # a stream of the seed's own, beside those that draw the episodes


class Augment:
    """Flip, turn, zoom, blur, crop and colour jitter, each picture of an episode independently.

    Everything follows from (seed, episode number, picture): workers and interruptions change nothing, and no other random
    number is touched.

    Args:
        seed: the run's seed.
        flip: mirror half of the pictures left to right.
        crop_scale: cut out a rectangle of at least this fraction of the area (sides 3:4 to 4:3) and enlarge it to the full
            square, masks by nearest neighbour; 1 for no crop. A crop that would lose the whole object is not made.
        rotate: turn half of the pictures by up to so many degrees; what comes in is the mean colour, and 255 in masks.
        zoom: enlarge or shrink by a factor between 1 - zoom and 1 + zoom: what does not fit is cut at a random place, what
            is missing is filled likewise. A change that would lose the whole object is not made.
        blur: blur half of the pictures with a kernel of 5 x 5.
        jitter: change brightness, contrast and saturation by factors between 1 - jitter and 1 + jitter.

    Raises:
        ConfigError: a fraction outside its range.
    """

    def __init__(
        self,
        seed: int,
        flip: bool = False,
        crop_scale: float = 1.0,
        jitter: float = 0.0,
        rotate: float = 0.0,
        zoom: float = 0.0,
        blur: bool = False,
    ) -> None:
        if not 0 < crop_scale <= 1:
            raise ConfigError(f"data.augment.crop_scale={crop_scale}: give a fraction of the area above 0, or 1 for no crop")
        if not 0 <= jitter <= 1:
            raise ConfigError(f"data.augment.jitter={jitter}: give a number from 0 (off) to 1")
        self._seed, self._flip, self._crop_scale, self._jitter = seed, flip, crop_scale, jitter
        self._rotate, self._zoom, self._blur = rotate, zoom, blur

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return self._flip or self._crop_scale < 1 or self._jitter > 0 or self._rotate > 0 or self._zoom > 0 or self._blur

    def __call__(
        self, image: UInt8[Tensor, "size size 3"], masks: UInt8[Tensor, "classes size size"], number: int, picture: int
    ) -> tuple[UInt8[Tensor, "size size 3"], UInt8[Tensor, "classes size size"]]:
        """Change a picture of an episode.

        Args:
            image: before normalisation.
            masks: one for each class of interest: 1 on the object, 0 elsewhere, 255 where nothing is known.
            number: the episode's number.
            picture: 0 for the query, then the supports are counted.
        """
        state = np.random.SeedSequence((self._seed, _AUGMENT, number, picture)).generate_state(1, np.uint64)[0]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(state))  # torch.manual_seed would turn to the GPU's generators as well
            whole = self._look(Image(image.permute(2, 0, 1)), Mask(masks))
            changed = self._crop(*self._move(*whole))
        if (_shown(whole[1]) & ~_shown(changed[1])).any():
            changed = whole
        return changed[0].as_subclass(Tensor).permute(1, 2, 0), changed[1].as_subclass(Tensor)

    def _look(self, image: Image, mask: Mask) -> tuple[Image, Mask]:
        if self._flip:
            image, mask = v2.RandomHorizontalFlip()(image, mask)
        if self._jitter:
            image = v2.ColorJitter(self._jitter, self._jitter, self._jitter)(image)
        if self._blur:
            image = v2.RandomApply([v2.GaussianBlur(5)])(image)
        return image, mask

    def _move(self, image: Image, mask: Mask) -> tuple[Image, Mask]:
        if not self._rotate and not self._zoom:
            return image, mask
        size = image.shape[1]
        turned, angle, factor, *place = torch.rand(5).tolist()
        degrees = self._rotate * (2 * angle - 1) * (turned < 0.5)
        scale = 1 + self._zoom * (2 * factor - 1)
        beyond = max(scale - 1, 0) * size / 2  # how far the window may lie from the middle of what was enlarged
        shift = [round(beyond * (2 * share - 1)) for share in place]
        fill = [255 * float(channel) for channel in MEAN.flatten()]
        bilinear, nearest = v2.InterpolationMode.BILINEAR, v2.InterpolationMode.NEAREST
        moved = v2.functional.affine(image, degrees, shift, scale, [0.0], interpolation=bilinear, fill=fill)
        moved_mask = v2.functional.affine(mask, degrees, shift, scale, [0.0], interpolation=nearest, fill=[float(UNKNOWN)])
        return moved, moved_mask

    def _crop(self, image: Image, mask: Mask) -> tuple[Image, Mask]:
        if self._crop_scale == 1:
            return image, mask
        return v2.RandomResizedCrop(list(image.shape[1:]), scale=(self._crop_scale, 1.0), antialias=True)(image, mask)


def _shown(masks: Tensor) -> Tensor:
    """(classes,) bool: which objects are there at all."""
    return (masks == 1).flatten(1).any(1)
