"""The LightningDataModule: a source, a fold and a protocol to loaders of episodes."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl

from mshnet_pl.data.loading.augmentation import Augment
from mshnet_pl.data.loading.dataset import collate
from mshnet_pl.data.loading.image_cache import ImageCache
from mshnet_pl.data.loading.loaders import (
    EpisodeLoader,
    EpisodeStream,
    LoadedEpisodes,
    LoadedPictures,
    PictureLoader,
    collate_loaded,
)
from mshnet_pl.data.protocol.leakage import check_disjoint
from mshnet_pl.data.protocol.sampling import (
    Draws,
    check_supply,
    draw_balanced,
    draw_seeded,
    refuse_bad,
    refuse_shortages,
    shortages,
    without,
)
from mshnet_pl.data.protocol.split_lists import Pair, by_class
from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.options import BadFiles, NovelPixels, Protocol, Subset, ValClasses

log = logging.getLogger(__name__)

_VALIDATION_SEED = 2**32
"""Added to the run's seed: validation episodes are never test episodes."""


class EpisodeDataModule(pl.LightningDataModule):
    """Training, validation and test episodes of one fold.

    Args:
        source: the data set.
        fold: number of the fold whose classes are novel.
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
        ConfigError: an impossible fold or shot.
    """

    def __init__(
        self,
        source: AbstractSource,
        fold: int = 0,
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
        try:
            self.fold = source.fold(fold)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self.class_names = source.classes
        self.splits = source.splits
        self._source, self._shot, self._way, self._seed = source, shot, way, seed
        self._batch_size, self._num_workers = batch_size, num_workers
        self._novel_pixels, self._min_images = novel_pixels, min_images
        self._skip_bad, self._val_episodes = bad_files is BadFiles.skip, val_episodes
        self._cache_mb, self._cache_dir, self._augment = cache_mb, cache_dir, augment
        self._cache: ImageCache | None = None
        self._heldout = source.validation_classes
        if val_classes is ValClasses.base_heldout and val_episodes and not self._heldout:
            self._heldout = self.fold.base[-val_heldout:]
        self._train_classes = [c for c in self.fold.base if c not in self._heldout]
        self._val_classes = list((self._heldout if val_classes is ValClasses.base_heldout else ()) or self.fold.novel)
        self._test_classes = list(self.fold.novel)
        self._ready = False
        self._train_names: dict[int, list[str]] = {}
        self._novel_pairs: list[Pair] = []
        self._drawn: list[Draws] = []
        self._val_names: dict[int, list[str]] = {}
        self._test: LoadedEpisodes | None = None
        self._pictured: LoadedEpisodes | None = None
        self._places: dict[str, int] = {}
        self.image_size = image_size
        """Side S of the square that images are resized to."""
        self.bad: dict[str, str] = {}
        """What is wrong with an image, by its name; empty unless ``bad_files=skip``."""
        self.removed = 0
        """How many training images ``novel_pixels=drop`` left out."""

    def setup(self, stage: str | None = None) -> None:
        """Check every file and list the images of every class, once.

        Raises:
            DataError: damaged or missing files, classes with too few images, training that sees what is tested, or no room
                for the cache.
        """
        if self._ready:
            return
        self._source.check(*[self.bad] * self._skip_bad)
        if self.bad:
            log.warning("data.bad_files=skip: episodes go without these images:\n%s", "\n".join(self.bad.values()))
        pairs = self._source.pairs(Subset.TRAIN)
        contents = self._source.contents(Subset.TRAIN)
        hidden = {*self.fold.novel, *self._heldout}
        holders = {name for name, _ in pairs if not hidden.isdisjoint(contents[name])}
        if self._novel_pixels is NovelPixels.drop:
            kept = [pair for pair in pairs if pair[0] not in holders]
            self.removed = len({name for name, class_id in pairs if class_id in self._train_classes} & holders)
        else:
            kept = pairs
        log.info(
            "novel_pixels=%s: %d training images hold a class that is tested; %d of the base classes' images left out",
            self._novel_pixels.value, len(holders), self.removed,
        )  # fmt: skip
        names = by_class(kept)
        self._train_classes = self._supplied(names, self._train_classes)
        self._train_names = {c: names[c] for c in self._train_classes if c in names}
        self._val_names = by_class(self._source.pairs(Subset.VAL))
        self._test_classes = self._supplied(self._val_names, self._test_classes)
        self._val_classes = self._supplied(self._val_names, self._val_classes)
        self._novel_pairs = [pair for pair in self._source.pairs(Subset.VAL) if pair[1] in self._test_classes]
        check_disjoint(
            self._train_names,
            hidden,
            contents if self._novel_pixels is NovelPixels.drop else None,
            {name for listed in self._val_names.values() for name in listed},
            self._source.classes,
        )
        self._cache = self._make_cache() if self._cache_mb else None
        self._ready = True

    def _make_cache(self) -> ImageCache:
        """Memory is for the images of this run; a file is for all images, so that the folds share it."""
        if self._cache_dir is None:
            tested = {*self._test_classes, *self._val_classes}
            read = [*self._train_names.values(), *(names for c, names in self._val_names.items() if c in tested)]
            return ImageCache([name for names in read for name in names], self.image_size, self._cache_mb)
        identity = self._source.identity()
        if identity is None:
            raise DataError(
                f"data.cache_dir={self._cache_dir}: {type(self._source).__name__} does not tell when an image changes; "
                "leave data.cache_dir=null for a cache in memory"
            )
        names = [name for subset in Subset for name, _ in self._source.pairs(subset)]
        return ImageCache(names, self.image_size, self._cache_mb, self._cache_dir, identity)

    def _supplied(self, names: Mapping[int, list[str]], classes: list[int]) -> list[int]:
        left_out = [c for c in classes if len(names.get(c, ())) < self._min_images]
        if left_out:
            log.warning(
                "data.min_images=%d leaves out %s",
                self._min_images,
                ", ".join(self._source.classes[c] for c in left_out),
            )
        if len(left_out) == len(classes):
            raise DataError(f"data.min_images={self._min_images} leaves no class of {[*classes]}; give a smaller number")
        return [c for c in classes if c not in left_out]

    def check_supply(self, test_shots: Sequence[int], training: bool) -> None:
        """Refuse episodes that cannot be drawn, those of training and of every test in one message.

        Args:
            test_shots: the shots that will be tested.
            training: whether there will be training.

        Raises:
            DataError: names every class with too few images.
        """
        self.setup()
        shot = max(test_shots)
        problems = shortages(self._usable(self._val_names), self._test_classes, shot, self._source.classes, self._way)
        problems = [f"{problem} for testing" for problem in problems]
        if training:
            shot = max(shot, self._shot) if problems else self._shot
            lacking = shortages(
                self._usable(self._train_names), self._train_classes, self._shot, self._source.classes, self._way
            )
            problems += [f"{problem} for training" for problem in lacking]
        refuse_shortages(problems, shot, self._way)

    def draws(self, episodes: int, shot: int, seed: int, protocol: Protocol) -> list[Draws]:
        """The test episodes, by name.

        Raises:
            DataError: a class with too few images.
        """
        self.setup()
        check_supply(self._usable(self._val_names), self._test_classes, shot, self._source.classes, self._way)
        if protocol is Protocol.published:
            made = self._source.published(self._novel_pairs, shot, episodes)
            refuse_bad(made, self.bad)
            return made
        drawn = (draw_seeded(self._val_names, self._test_classes, shot, seed, n, self._way) for n in range(episodes))
        return [without(self._val_names, seed, draws, n, self.bad) for n, draws in enumerate(drawn)]

    def _usable(self, names: Mapping[int, list[str]]) -> Mapping[int, list[str]]:
        return {c: [name for name in listed if name not in self.bad] for c, listed in names.items()} if self.bad else names

    def _replacing(self, names: Mapping[int, list[str]], seed: int) -> dict[str, Any]:
        """How a data set of these lists and this seed deals with bad images."""
        return {"replace": partial(without, names, seed), "bad": self.bad} if self._skip_bad else {}

    def use_test_episodes(self, draws: list[Draws], original_size: bool = False, show_queries: bool = False) -> None:
        """Choose what ``test_dataloader`` gives: masks of ``original_size``, ``show_queries`` though features are kept."""
        self._drawn = draws
        of_test = self._source, draws.__getitem__, len(draws), self.image_size, original_size
        self._pictured = LoadedEpisodes(*of_test, cache=self._cache)
        self._test = LoadedEpisodes(*of_test, cache=self._cache, places=self._places, show_queries=show_queries)

    def test_episodes(self, numbers: Sequence[int]) -> EpisodeLoader:
        """Some of the episodes of ``use_test_episodes``, the same ones in every process."""
        if self._pictured is None:
            raise RuntimeError("call use_test_episodes first")
        return EpisodeLoader(self._pictured, sampler=numbers, collate_fn=collate_loaded)

    def use_features(self, places: Mapping[str, int]) -> None:
        """Leave the images out of the loaders' episodes whose features are kept, at the given places."""
        self._places.clear()
        self._places.update(places)

    def training_images(self) -> list[str]:
        """The names of all images that training and validation may read."""
        self.setup()
        validation = self._val_dataset() if self._val_episodes else None
        of_validation = [name for n in range(self._val_episodes) for name in (validation.names(n) if validation else ())]
        every = [*(name for names in self._train_names.values() for name in names), *of_validation]
        return [name for name in dict.fromkeys(every) if name not in self.bad]

    def test_images(self) -> list[str]:
        """The names of the images of ``use_test_episodes``, those of the first episodes first."""
        every = (name for draws in self._drawn for draw in draws for name in (draw.query, *draw.supports))
        return [*dict.fromkeys(every)]

    def all_images(self) -> list[str]:
        """The names of all images of the data set."""
        return [*dict.fromkeys(name for subset in Subset for name, _ in self._source.pairs(subset))]

    def identity(self) -> str | None:
        """What changes with any image of the data set; None if that cannot be told."""
        self.setup()
        return self._source.identity()

    def images(self, names: Sequence[str]) -> PictureLoader:
        """(1, 3, S, S) normalised images by name, in order."""
        pictures = LoadedPictures(self._source, names, self.image_size, self._cache)
        return PictureLoader(pictures, batch_size=1, num_workers=self._num_workers, collate_fn=list)

    def train_dataloader(self) -> EpisodeStream:
        """An endless stream of episodes of base classes, each as likely or as frequent as the source says."""
        return EpisodeStream(self._train_dataset(self._places), self._batch_size, self._num_workers, *self._share())

    def training_draws(self, number: int) -> Draws:
        """The images of training episode ``number``, by name."""
        return self._train_dataset().draws(number)

    def training_batch(self, numbers: Sequence[int]) -> Episode:
        """Training episodes by number, with all images."""
        dataset = self._train_dataset()
        return collate([dataset[number] for number in numbers])

    def _train_dataset(self, places: Mapping[str, int] | None = None) -> LoadedEpisodes:
        check_supply(self._usable(self._train_names), self._train_classes, self._shot, self._source.classes, self._way)
        length, per_class = self._source.epoch_length, self._source.draws_per_class
        choice = self._train_names, self._train_classes, self._shot, self._seed
        if length is None:
            length = per_class * len(self._train_classes)
            draw = partial(draw_balanced, *choice, per_class=per_class, way=self._way)
        else:
            draw = partial(draw_seeded, *choice, way=self._way)
        return LoadedEpisodes(
            self._source, draw, length, self.image_size,
            unknown=self._unknown(), cache=self._cache, augment=self._augment, places=places,
            **self._replacing(self._train_names, self._seed),
        )  # fmt: skip

    def _unknown(self) -> list[int]:
        return sorted({*self.fold.novel, *self._heldout}) if self._novel_pixels is NovelPixels.ignore else []

    def val_dataloader(self) -> EpisodeLoader:
        """Seeded episodes of the validation classes."""
        return self._loader(self._val_dataset(self._places))

    def panel(self, episodes: int) -> Episode:
        """The first validation episodes as one batch; there are such whether training validates or not."""
        dataset = self._val_dataset()
        return collate([dataset[number] for number in range(episodes)])

    def _val_dataset(self, places: Mapping[str, int] | None = None) -> LoadedEpisodes:
        check_supply(self._usable(self._val_names), self._val_classes, self._shot, self._source.classes, self._way)
        seed = self._seed + _VALIDATION_SEED
        draw = partial(draw_seeded, self._val_names, self._val_classes, self._shot, seed, way=self._way)
        of_validation = self._source, draw, self._val_episodes, self.image_size
        replacing = self._replacing(self._val_names, seed)
        return LoadedEpisodes(*of_validation, cache=self._cache, places=places, **replacing)

    def test_dataloader(self) -> EpisodeLoader:
        """The episodes of ``use_test_episodes``, in order."""
        if self._test is None:
            raise RuntimeError("call use_test_episodes first")
        return self._loader(self._test)

    def _loader(self, dataset: LoadedEpisodes) -> EpisodeLoader:
        rank, world_size = self._share()
        mine = range(rank, len(dataset), world_size)
        return EpisodeLoader(
            dataset, self._batch_size, sampler=mine, num_workers=self._num_workers, collate_fn=collate_loaded
        )

    def _share(self) -> tuple[int, int]:
        """This process's rank among how many."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
