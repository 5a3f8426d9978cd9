"""The LightningDataModule: a source, a fold and a protocol to loaders of episodes."""

from collections.abc import Collection, Sequence

import pytorch_lightning as pl
from torch import Tensor

from mshnet_pl.data.loading.augmentation import Augment
from mshnet_pl.data.loading.dataset import collate, image_ids
from mshnet_pl.data.loading.fold_images import FoldImages
from mshnet_pl.data.loading.image_cache import ImageCache
from mshnet_pl.data.loading.loaders import (
    EpisodeLoader,
    EpisodeStream,
    ImageLoader,
    LoadedEpisodes,
    LoadedImages,
    collate_loaded,
    unwrap,
)
from mshnet_pl.data.protocol.sampling import Draws
from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.options import BadFiles, Control, NovelPixels, Protocol, Subset, SupportKind, ValClasses
from mshnet_pl.utils.signals import ignore_interrupts


class EpisodeDataModule(pl.LightningDataModule):
    """Training, validation and test episodes of one fold.

    Args:
        source: the data set.
        fold: number of the fold whose classes are novel; ``all`` for training and tests of every class.
        shot: supports K of an episode's class.
        way: classes N of an episode.
        seed: of training and validation episodes.
        image_size: side of the square that images are resized to.
        batch_size: episodes in a batch.
        num_workers: worker processes of each loader; the episodes do not depend on it.
        novel_pixels: ``drop`` (the paper) leaves training images with a novel class out as query and as support, ``keep``
            (HSNet) leaves them in, ``ignore`` labels the novel classes' pixels 255.
        min_images: leave out classes with fewer images, in training and in test.
        bad_files: ``error``, or ``skip``: in training and validation an episode with a damaged image gives way to another of
            its class whenever that shows; test episodes do so before the test alone, since their hash is recorded.
        val_classes: ``novel`` (the field's habit, biased) or ``base_heldout``: the data set's own validation classes, or
            else some of the base classes.
        val_heldout: how many base classes ``base_heldout`` keeps for validation.
        val_episodes: validation episodes; 0 for none.
        cache_mb: budget of a cache of resized images in units of 2**20 bytes, one for each process that trains; 0 for none.
        cache_dir: folder that keeps the cache as a file for other processes and later runs; in shared memory by default.
        augment: random changes of training episodes.

    Raises:
        ConfigError: an impossible fold or shot, or no class left to train.
    """

    def __init__(
        self,
        source: AbstractSource,
        fold: int | str = 0,
        shot: int = 1,
        way: int = 1,
        seed: int = 0,
        image_size: int = 473,
        batch_size: int = 8,
        num_workers: int = 0,
        novel_pixels: NovelPixels = NovelPixels.drop,
        min_images: int = 0,
        bad_files: BadFiles = BadFiles.error,
        val_classes: ValClasses = ValClasses.novel,
        val_heldout: int = 3,
        val_episodes: int = 0,
        cache_mb: int = 0,
        cache_dir: str | None = None,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self._images = FoldImages(
            source, fold, shot, way, seed, novel_pixels, min_images, bad_files, val_classes, val_heldout, val_episodes
        )
        self.fold = self._images.fold
        if self.fold.base and not self._images.trained and not source.validation_classes:
            raise ConfigError(
                f"val.heldout={val_heldout}: there are {len(self.fold.base)} base classes; keep some for training"
            )
        self.class_names = source.classes
        self.splits = source.splits
        self._source, self._val_episodes = source, val_episodes
        self._batch_size, self._num_workers = batch_size, num_workers
        self._cache_mb, self._cache_dir, self._augment = cache_mb, cache_dir, augment
        self._cache: ImageCache | None = None
        self._ids: dict[str, int] = {}
        self._left_out: set[int] = set()
        self._ready = False
        self._drawn: list[Draws] = []
        self._original_size = self._show_queries = self._show_supports = False
        self._support, self._seed = SupportKind.mask, 0
        self.image_size = image_size
        """Side S of the square that images are resized to."""

    @property
    def tested_classes(self) -> list[str]:
        """The names of the classes that the fold tests."""
        return [self.class_names[c] for c in self.fold.tested]

    @property
    def trained_classes(self) -> list[str]:
        """The names of the classes that training draws."""
        return self._images.trained

    @property
    def bad(self) -> dict[str, str]:
        """What is wrong with an image, by its name; empty unless ``bad_files=skip``."""
        return self._images.bad

    @property
    def removed(self) -> int:
        """How many training images ``novel_pixels=drop`` left out."""
        return self._images.removed

    def setup(self, stage: str | None = None) -> None:
        """Check every file and list the images of every class, once.

        Raises:
            DataError: damaged or missing files, classes with too few images, training that sees what is tested, or no room
                for the cache.
        """
        if self._ready:
            return
        self._images.setup()
        self._ids = image_ids(self._source)
        self._cache = self._make_cache() if self._cache_mb else None
        self._ready = True

    def _make_cache(self) -> ImageCache:
        """Memory is for the images of this run; a file is for all images, so that the folds share it."""
        if self._cache_dir is None:
            return ImageCache(self._images.read, self.image_size, self._cache_mb)
        identity = self._source.identity()
        if identity is None:
            raise DataError(
                f"data.cache_dir={self._cache_dir}: {type(self._source).__name__} does not tell when an image changes; "
                "leave data.cache_dir=null for a cache in memory"
            )
        names = [name for subset in Subset for name, _ in self._source.pairs(subset)]
        return ImageCache(names, self.image_size, self._cache_mb, self._cache_dir, identity)

    def check_supply(self, test_shots: Sequence[int], training: bool) -> None:
        """Refuse episodes that cannot be drawn, those of training and of every test in one message.

        Args:
            test_shots: the shots that will be tested.
            training: whether there will be training.

        Raises:
            DataError: names every class with too few images.
        """
        self.setup()
        self._images.check_supply(test_shots, training)

    def draws(self, episodes: int, shot: int, seed: int, protocol: Protocol) -> list[Draws]:
        """The test episodes, by name.

        Raises:
            DataError: a class with too few images.
        """
        self.setup()
        return self._images.test_draws(episodes, shot, seed, protocol)

    def use_test_episodes(
        self,
        draws: list[Draws],
        original_size: bool = False,
        show_queries: bool = False,
        show_supports: bool = False,
        support: SupportKind = SupportKind.mask,
        seed: int = 0,
    ) -> None:
        """Choose what ``test_dataloader`` gives.

        Args:
            draws: the episodes.
            original_size: leave query masks at their images' own size.
            show_queries: read the queries even where ``leave_out`` has them.
            show_supports: likewise, the supports.
            support: what the method is shown of supports' masks; for marks all images are read.
            seed: of the marks.
        """
        self._drawn, self._original_size, self._support, self._seed = draws, original_size, support, seed
        self._show_queries, self._show_supports = show_queries, show_supports

    def control_episodes(self, episodes: int, shot: int, seed: int) -> dict[Control, tuple[list[Draws], EpisodeLoader]]:
        """The first of ``use_test_episodes`` and control episodes of each kind, by name and as a loader of all images.

        Raises:
            DataError: there is no other class to show.
        """
        kinds = self._images.control_draws(self._drawn[:episodes], shot, seed)
        return {
            kind: (draws, EpisodeLoader(self._test_dataset(drawn=draws), collate_fn=collate_loaded))
            for kind, draws in kinds.items()
        }

    def leave_out(self, ids: Collection[int]) -> None:
        """Say which images the loaders need not read; there are zeros in their place."""
        self._left_out.clear()
        self._left_out.update(ids)

    @property
    def image_names(self) -> list[str]:
        """The names of all images of the data set; an image's id is its place here."""
        self.setup()
        return [*self._ids]

    def training_images(self) -> list[int]:
        """The ids of all images that training and validation may read."""
        self.setup()
        names = [name for listed in self._images.train.values() for name in listed]
        if self._val_episodes:
            validation = self._val_dataset()
            names += [name for n in range(self._val_episodes) for name in validation.names(n)]
        return [self._ids[name] for name in dict.fromkeys(names) if name not in self.bad]

    def test_images(self) -> list[int]:
        """The ids of the images of ``use_test_episodes``, those of the first episodes first."""
        names = (name for draws in self._drawn for draw in draws for name in (draw.query, *draw.supports))
        return [self._ids[name] for name in dict.fromkeys(names)]

    def identity(self) -> str | None:
        """What changes with any image of the data set; None if that cannot be told."""
        self.setup()
        return self._source.identity()

    @property
    def content(self) -> str | None:
        """See the source's."""
        return self._source.content()

    def image(self, image_id: int) -> Tensor:
        """A normalised image (1, 3, S, S).

        Raises:
            DataError: it cannot be read.
        """
        loaded = LoadedImages(self._source, [self.image_names[image_id]], self.image_size, self._cache)[0]
        image: Tensor = unwrap(loaded)
        return image[None]

    def images(self, ids: Sequence[int]) -> ImageLoader:
        """Normalised images (1, 3, S, S) one after the other."""
        names = self.image_names
        images = LoadedImages(self._source, [names[i] for i in ids], self.image_size, self._cache)
        return ImageLoader(
            images, batch_size=1, num_workers=self._num_workers, collate_fn=list, worker_init_fn=ignore_interrupts
        )

    def train_dataloader(self) -> EpisodeStream:
        """An endless stream of episodes of base classes, each as likely or as frequent as the source says."""
        return EpisodeStream(self._train_dataset(self._left_out), self._batch_size, self._num_workers, *self._share())

    def training_draws(self, number: int) -> Draws:
        """The images of training episode ``number``, by name."""
        return self._train_dataset().draws(number)

    def training_batch(self, numbers: Sequence[int]) -> Episode:
        """Training episodes by number, with all images."""
        dataset = self._train_dataset()
        return collate([dataset[number] for number in numbers])

    def val_dataloader(self) -> EpisodeLoader:
        """Seeded episodes of the validation classes."""
        return self._loader(self._val_dataset(self._left_out))

    def panel(self, episodes: int) -> Episode:
        """The first validation episodes as one batch; there are such whether training validates or not."""
        dataset = self._val_dataset()
        return collate([dataset[number] for number in range(episodes)])

    def test_dataloader(self) -> EpisodeLoader:
        """The episodes of ``use_test_episodes``, in order."""
        return self._loader(self._test_dataset(self._left_out))

    def test_episodes(self, numbers: Sequence[int]) -> EpisodeLoader:
        """Some of the episodes of ``use_test_episodes`` with all images, the same ones in every process."""
        return EpisodeLoader(self._test_dataset(), sampler=numbers, collate_fn=collate_loaded)

    def _train_dataset(self, left_out: Collection[int] = ()) -> LoadedEpisodes:
        draw, length = self._images.train_draw()
        return LoadedEpisodes(
            self._source, draw, length, self.image_size,
            unknown=self._images.unknown, cache=self._cache, augment=self._augment, ids=self._ids, left_out=left_out,
            **self._images.replacing(validation=False),
        )  # fmt: skip

    def _val_dataset(self, left_out: Collection[int] = ()) -> LoadedEpisodes:
        return LoadedEpisodes(
            self._source, self._images.val_draw(), self._val_episodes, self.image_size,
            cache=self._cache, ids=self._ids, left_out=left_out, **self._images.replacing(validation=True),
        )  # fmt: skip

    def _test_dataset(self, left_out: Collection[int] = (), drawn: list[Draws] | None = None) -> LoadedEpisodes:
        drawn = self._drawn if drawn is None else drawn
        if not self._drawn:
            raise RuntimeError("call use_test_episodes first")
        return LoadedEpisodes(
            self._source, drawn.__getitem__, len(drawn), self.image_size, self._original_size,
            cache=self._cache, ids=self._ids, left_out=left_out if self._support is SupportKind.mask else (),
            show_queries=self._show_queries, show_supports=self._show_supports, support=self._support, seed=self._seed,
        )  # fmt: skip

    def _loader(self, dataset: LoadedEpisodes) -> EpisodeLoader:
        rank, world_size = self._share()
        mine = range(rank, len(dataset), world_size)
        return EpisodeLoader(
            dataset,
            self._batch_size,
            sampler=mine,
            num_workers=self._num_workers,
            collate_fn=collate_loaded,
            worker_init_fn=ignore_interrupts,
        )

    def _share(self) -> tuple[int, int]:
        """This process's rank among how many."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
