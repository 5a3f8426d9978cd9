"""The loaders of episodes: an endless stream for training, ends for tests, and errors of their processes as one message."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mshnet_pl.data.io.transforms import normalise
from mshnet_pl.data.loading.dataset import EpisodeDataset, Unusable, collate, square
from mshnet_pl.data.loading.image_cache import ImageCache
from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.episode import Episode
from mshnet_pl.errors import DataError
from mshnet_pl.utils.signals import ignore_interrupts


class Loaded(NamedTuple):
    """What a loader's process read; an error raised there would come with that process's traceback."""

    value: Any = None
    error: str | None = None
    """What came instead."""
    replaced: int = 0
    """How many episodes took others' places."""
    bad: Mapping[str, str] | None = None
    """Images that cannot be used, as far as that process knows."""


class LoadedEpisodes(EpisodeDataset):
    """What loaders read: a batch's episodes with what was met on the way, errors as values."""

    def __getitems__(self, numbers: Sequence[int]) -> list[Loaded]:
        """The episodes of these numbers."""
        loaded = []
        for number in numbers:
            try:
                episode = self[number]
                loaded.append(Loaded(episode, replaced=int(self.replaced(number)), bad=self.bad))
            except DataError as error:
                loaded.append(Loaded(error=str(error)))
        return loaded


class LoadedImages(Dataset[Loaded]):
    """Normalised images (3, S, S) by their place in ``names``, as loaders read them; arguments as ``EpisodeDataset``'s."""

    def __init__(
        self, source: AbstractSource, names: Sequence[str], image_size: int, cache: ImageCache | None = None
    ) -> None:
        self._source, self._names, self._size, self._cache = source, names, image_size, cache

    def __len__(self) -> int:
        """Number of images."""
        return len(self._names)

    def __getitem__(self, place: int) -> Loaded:
        """The image at that place, or that it cannot be read."""
        name = self._names[place]
        try:
            return Loaded(normalise(square(self._source, name, self._size, self._cache)))
        except Unusable as error:
            return Loaded(error=f"{error}\n{name} cannot be read; mend or replace its file")


def collate_loaded(loaded: Sequence[Loaded]) -> Loaded:
    """Join episodes and what was met; the first error is that of all."""
    error = next((one.error for one in loaded if one.error is not None), None)
    if error is not None:
        return Loaded(error=error)
    bad = {name: problem for one in loaded for name, problem in (one.bad or {}).items()}
    return Loaded(collate([one.value for one in loaded]), replaced=sum(one.replaced for one in loaded), bad=bad)


def unwrap(loaded: Loaded, dataset: Any = None) -> Any:  # noqa: ANN401 - of whatever data set
    """The value; ``dataset`` learns what was met.

    Raises:
        DataError: there is none.
    """
    if loaded.error is not None:
        raise DataError(loaded.error)
    if loaded.bad:
        dataset.bad.update(loaded.bad)
    return loaded.value


def _until_an_error(loaded: Iterable[Loaded]) -> Iterator[Loaded]:
    """What comes before the first error, which is raised once the loader's processes have ended.

    Else the error would hold them, and whoever clears both up much later waits for each of them.

    Raises:
        DataError: there is one.
    """
    for one in loaded:
        if one.error is not None:
            break
        yield one
    else:
        return
    del loaded
    raise DataError(one.error)


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
        dataset: LoadedEpisodes,
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
            collate_fn=collate_loaded,
            pin_memory=pin_memory,
            worker_init_fn=ignore_interrupts,
            persistent_workers=False,
        )
        self.replaced = 0
        """How many of the episodes that were handed out took others' places, before an interruption and after it."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._batches

    def __iter__(self) -> Iterator[Episode]:  # type: ignore[override]  # a generator serves as the iterator
        """The stream from where it stopped.

        Raises:
            DataError: as the data set raised it, in whichever process.
        """
        loaded: Loaded
        for loaded in _until_an_error(super().__iter__()):
            episode = unwrap(loaded, self.dataset)
            self._stream.first += 1
            self.replaced += loaded.replaced
            yield episode

    def state_dict(self) -> dict[str, Any]:
        """How many batches were handed out, and how many episodes in them took others' places."""
        return {"batches": self._stream.first, "replaced": self.replaced}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after that many batches."""
        self._stream.first, self.replaced = state["batches"], state.get("replaced", 0)


class EpisodeLoader(DataLoader[Episode]):
    """A loader of ``LoadedEpisodes`` that ends."""

    def __iter__(self) -> Iterator[Episode]:  # type: ignore[override]  # as EpisodeStream's
        """The batches.

        Raises:
            DataError: as the data set raised it, in whichever process.
        """
        return (unwrap(loaded, self.dataset) for loaded in _until_an_error(super().__iter__()))


class ImageLoader(DataLoader[Loaded]):
    """A loader of images, one by one."""

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]  # as EpisodeStream's
        """The images (1, 3, S, S).

        Raises:
            DataError: as the data set raised it, in whichever process.
        """
        return (unwrap(loaded)[None] for loaded in _until_an_error(one for (one,) in super().__iter__()))
