"""Episodes as a data set that any worker process can index, and the loader that trains on an endless stream of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset, Sampler

from mshnet_pl.data.augment import Augment
from mshnet_pl.data.cache import ImageCache
from mshnet_pl.data.sampler import Draw, Draws
from mshnet_pl.data.source import AbstractSource
from mshnet_pl.data.transforms import normalise, resize_mask, to_square
from mshnet_pl.episode import UNKNOWN, Episode


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
        places: where features are kept, by the image's name; such images are not read.
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
        places: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._places = places
        self._source, self._draw, self._length = source, draw, length
        self._size, self._original_size, self._unknown = image_size, original_size, tuple(unknown)
        self._cache, self._augment = cache, augment

    def __len__(self) -> int:
        """Episodes in an epoch; numbers may go beyond it."""
        return self._length

    def __getitem__(self, number: int) -> Episode:
        """Read and resize episode ``number``: a batch with a row for each of its classes."""
        draws = self._draw(number)
        query, query_masks = self._picture(
            draws[0].query, torch.stack([self._query_mask(draw) for draw in draws]), number, picture=0
        )
        supports: list[Tensor] = []
        support_masks: list[Tensor] = []
        for draw in draws:
            for name in draw.supports:
                mask = resize_mask(self._source.mask(name, [draw.class_id]), self._size)
                support, masks = self._picture(name, mask[None], number, picture=len(supports) + 1)
                supports.append(support)
                support_masks.append(masks[0] == 1)
        return Episode(
            query=query.expand(len(draws), -1, -1, -1),
            support=torch.stack(supports).unflatten(0, (len(draws), -1)),
            support_mask=torch.stack(support_masks).float().unflatten(0, (len(draws), -1)),
            query_mask=query_masks,
            query_size=torch.tensor([query_masks.shape[1:]] * len(draws)),
            class_id=torch.tensor([draw.class_id for draw in draws]),
            number=torch.tensor([number] * len(draws)),
            query_place=torch.tensor([self._places.get(draw.query, -1) for draw in draws]),
            support_place=torch.tensor([[self._places.get(name, -1) for name in draw.supports] for draw in draws]),
        )

    def draws(self, number: int) -> Draws:
        """The images of episode ``number`` and its classes."""
        return self._draw(number)

    def names(self, number: int) -> list[str]:
        """The images of episode ``number``."""
        return [name for draw in self._draw(number) for name in (draw.query, *draw.supports)]

    def _picture(self, name: str, masks: Tensor, number: int, picture: int) -> tuple[Tensor, Tensor]:
        """Normalised image and its masks, changed at random where that is wanted."""
        if name in self._places:
            return torch.zeros(1).expand(3, self._size, self._size), masks
        image = square(self._source, name, self._size, self._cache)
        if self._augment:
            image, masks = self._augment(image, masks, number, picture)
        return normalise(image), masks

    def _query_mask(self, draw: Draw) -> Tensor:
        mask = self._source.mask(draw.query, [draw.class_id])
        if self._unknown:
            hidden = self._source.mask(draw.query, self._unknown) == 1
            mask = np.where(hidden & (mask == 0), np.uint8(UNKNOWN), mask)
        return torch.from_numpy(mask) if self._original_size else resize_mask(mask, self._size)


class Pictures(Dataset[Tensor]):
    """Normalised images (3, S, S) by their place in ``names``; arguments as ``EpisodeDataset``'s."""

    def __init__(
        self, source: AbstractSource, names: Sequence[str], image_size: int, cache: ImageCache | None = None
    ) -> None:
        self._source, self._names, self._size, self._cache = source, names, image_size, cache

    def __len__(self) -> int:
        """Number of images."""
        return len(self._names)

    def __getitem__(self, place: int) -> Tensor:
        """The image at that place."""
        return normalise(square(self._source, self._names[place], self._size, self._cache))


def square(source: AbstractSource, name: str, size: int, cache: ImageCache | None) -> Tensor:
    """(S, S, 3) uint8 image, from the cache if it is there."""

    def make() -> Tensor:
        return to_square(source.image(name), size)

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


class _Stream(Sampler[list[int]]):
    """Batches of consecutive episode numbers from batch ``first`` on, without end; each process takes its share."""

    def __init__(self, batch_size: int, rank: int, world_size: int) -> None:
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self.first = 0

    def __iter__(self) -> Iterator[list[int]]:
        batch = self.first
        while True:
            start = (batch * self._world_size + self._rank) * self._batch_size
            yield list(range(start, start + self._batch_size))
            batch += 1


class EpisodeStream(DataLoader[Episode]):
    """Training batches that go on with the very next episode after an interruption, even within an epoch.

    Lightning saves and restores ``state_dict``. Episodes follow from their numbers alone, so neither the number of workers
    nor an interruption changes them.

    Args:
        dataset: its length is an epoch's number of episodes.
        batch_size: episodes in a batch of one process.
        num_workers: worker processes.
        rank: this process's rank.
        world_size: how many processes share the stream.
        pin_memory: copy batches into page-locked memory.
    """

    def __init__(
        self,
        dataset: EpisodeDataset,
        batch_size: int,
        num_workers: int,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
    ) -> None:
        self._stream = _Stream(batch_size, rank, world_size)
        self._batches = max(len(dataset) // (batch_size * world_size), 1)
        super().__init__(
            dataset,
            batch_sampler=self._stream,
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            persistent_workers=False,
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._batches

    def __iter__(self) -> Iterator[Episode]:  # type: ignore[override]  # a generator serves as the iterator
        """The stream from where it stopped."""
        for batch in super().__iter__():
            self._stream.first += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches were handed out."""
        return {"batches": self._stream.first}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after that many batches."""
        self._stream.first = state["batches"]
