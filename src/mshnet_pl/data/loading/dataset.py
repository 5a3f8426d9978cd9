"""Episodes as a data set that any worker process can index, and the loader that trains on an endless stream of them."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from mshnet_pl.data.io.transforms import normalise, resize_mask, to_square
from mshnet_pl.data.loading.augmentation import Augment
from mshnet_pl.data.loading.image_cache import ImageCache
from mshnet_pl.data.loading.weak_supports import weakened
from mshnet_pl.data.protocol.sampling import Draws
from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.episode import Episode
from mshnet_pl.errors import DataError
from mshnet_pl.options import UNKNOWN, Subset, SupportKind

_UNREADABLE = (DataError, OSError, SyntaxError, ValueError)
"""What sources raise where files cannot be read."""


class EpisodeDataset(Dataset[Episode]):
    """Episode by number.

    Args:
        source: gives images and masks.
        draw: episode number to its images' names.
        length: how many episodes an epoch has.
        image_size: side S of the square that images are resized to.
        original_size: leave query masks at their images' own size instead of S x S.
        unknown: classes whose pixels are labelled 255 in query masks.
        cache: keeps resized images; changes no episode.
        augment: random changes of the pictures; not together with ``original_size``.
        ids: the images' numbers in the data set's list, by name; ``image_ids`` of the source by default.
        left_out: ids of images that are not read, zeros in their place; masks are read all the same.
        show_queries: read the queries' images even so.
        show_supports: read the supports' images even so.
        support: what is shown of the supports' masks; marks stand in ``support_mask`` as ``data.io.marks`` tells them.
        seed: of the marks.
        replace: from an episode, its number and the bad images to the episode in its place; without it, a bad image is an
            error.
        bad: what is wrong with an image, by its name; what is met is added.
    """

    def __init__(
        self,
        source: AbstractSource,
        draw: Callable[[int], Draws],
        length: int,
        image_size: int,
        original_size: bool = False,
        unknown: Sequence[int] = (),
        cache: ImageCache | None = None,
        augment: Augment | None = None,
        ids: Mapping[str, int] | None = None,
        left_out: Collection[int] = (),
        show_queries: bool = False,
        show_supports: bool = False,
        replace: Callable[[Draws, int, Collection[str]], Draws] | None = None,
        bad: dict[str, str] | None = None,
        support: SupportKind = SupportKind.mask,
        seed: int = 0,
    ) -> None:
        self._support, self._seed = support, seed
        self._ids = image_ids(source) if ids is None else ids
        self._left_out, self._replace = left_out, replace
        self.bad = {} if bad is None else bad
        """What is wrong with an image, by its name, as far as it is known here."""
        self._source, self._draw, self._length = source, draw, length
        self._size, self._original_size, self._unknown = image_size, original_size, tuple(unknown)
        self._cache, self._augment = cache, augment
        self._show_queries, self._show_supports = show_queries, show_supports

    def __len__(self) -> int:
        """Episodes in an epoch; numbers may go beyond it."""
        return self._length

    def __getitem__(self, number: int) -> Episode:
        """Read and resize episode ``number``: a batch with a row for each of its classes.

        Raises:
            DataError: an image or a mask cannot be used, and no other episode takes its place.
        """
        while True:
            try:
                return self._read(number, self.draws(number))
            except Unusable as problem:
                if self._replace is None or problem.name in self.bad:
                    raise DataError(
                        f"{problem}\nepisode {number} needs {problem.name}; mend or replace its files and give the same "
                        "command again, or give data.bad_files=skip"
                    ) from problem
                self.bad[problem.name] = str(problem)

    def _read(self, number: int, draws: Draws) -> Episode:
        among = draws[0].among
        query, query_masks = self._picture(draws[0].query, [draw.class_id for draw in draws], number, picture=0, among=among)
        supports: list[Tensor] = []
        support_masks: list[Tensor] = []
        for draw in draws:
            for name in draw.supports:
                shown = draw.class_id if draw.shown is None else draw.shown
                support, masks = self._picture(name, [shown], number, picture=len(supports) + 1)
                told = weakened((masks[0] == 1).numpy(), self._support, number, len(supports), self._seed)
                supports.append(support)
                support_masks.append(torch.from_numpy(told))
        return Episode(
            query=query.expand(len(draws), -1, -1, -1),
            support=torch.stack(supports).unflatten(0, (len(draws), -1)),
            support_mask=torch.stack(support_masks).float().unflatten(0, (len(draws), -1)),
            query_mask=query_masks,
            query_size=torch.tensor([query_masks.shape[1:]] * len(draws)),
            class_id=torch.tensor([draw.class_id for draw in draws]),
            number=torch.tensor([number] * len(draws)),
            query_id=torch.tensor([self._ids[draw.query] for draw in draws]),
            support_id=torch.tensor([[self._ids[name] for name in draw.supports] for draw in draws]),
        )

    def replaced(self, number: int) -> bool:
        """Whether another episode takes the place of ``number``, as far as it is known here."""
        return bool(self.bad) and self.draws(number) != self._draw(number)

    def draws(self, number: int) -> Draws:
        """The images of episode ``number`` and its classes."""
        drawn = self._draw(number)
        return self._replace(drawn, number, self.bad.keys()) if self._replace and self.bad else drawn

    def names(self, number: int) -> list[str]:
        """The images of episode ``number``."""
        return [name for draw in self.draws(number) for name in (draw.query, *draw.supports)]

    def _picture(
        self, name: str, classes: Sequence[int], number: int, picture: int, among: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor]:
        """Normalised image and its masks of every class, changed at random where that is wanted; the query is picture 0."""
        try:
            masks = [self._mask(name, class_id, self._unknown if picture == 0 else (), among) for class_id in classes]
        except _UNREADABLE as error:
            raise Unusable(name, str(error)) from error
        if self._original_size and picture == 0:
            shown = torch.from_numpy(np.stack(masks))
        else:
            shown = torch.stack([resize_mask(mask, self._size) for mask in masks])
        if self._ids[name] in self._left_out and not (self._show_queries if picture == 0 else self._show_supports):
            return torch.zeros(1).expand(3, self._size, self._size), shown
        image = square(self._source, name, self._size, self._cache, masks[0].shape)
        if self._augment:
            image, shown = self._augment(image, shown, number, picture)
        return normalise(image), shown

    def _mask(self, name: str, class_id: int, unknown: Sequence[int], among: Sequence[int]) -> np.ndarray:
        mask = self._source.mask(name, [class_id])
        if among:
            mask = np.where(self._source.mask(name, among) == 1, mask, np.uint8(UNKNOWN))
        if unknown:
            hidden = self._source.mask(name, unknown) == 1
            mask = np.where(hidden & (mask == 0), np.uint8(UNKNOWN), mask)
        return mask


class Unusable(Exception):
    """An image whose files cannot be used, by its name, and why."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


def image_ids(source: AbstractSource) -> dict[str, int]:
    """The number of every image of a data set in the list of all of them, which is in the order of their names."""
    names = {name for subset in Subset for name, _ in source.pairs(subset)}
    return {name: number for number, name in enumerate(sorted(names))}


def square(
    source: AbstractSource, name: str, size: int, cache: ImageCache | None, shape: tuple[int, ...] | None = None
) -> Tensor:
    """(S, S, 3) uint8 image, from the cache if it is there.

    Raises:
        Unusable: it cannot be read, or has not the ``shape`` (H, W) that its mask has.
    """

    def make() -> Tensor:
        try:
            image = source.image(name)
        except _UNREADABLE as error:
            raise Unusable(name, str(error)) from error
        if shape is not None and image.size[::-1] != shape:
            sizes = f"the mask has {shape[1]} x {shape[0]} pixels, the image {image.width} x {image.height}"
            raise Unusable(name, f"{name}: {sizes}")
        return to_square(image, size)

    return cache.get(name, make) if cache else make()


def collate(episodes: Sequence[Episode]) -> Episode:
    """Join episodes; query masks of different sizes are padded with 255 at the bottom and on the right."""
    height, width = (max(episode.query_mask.shape[d] for episode in episodes) for d in (1, 2))
    padded = [
        episode._replace(
            query_mask=pad(
                episode.query_mask,
                (0, width - episode.query_mask.shape[2], 0, height - episode.query_mask.shape[1]),
                value=UNKNOWN,
            )
        )
        for episode in episodes
    ]
    return Episode(*(torch.cat(parts) for parts in zip(*padded, strict=True)))
