"""Episodes as tensors: what is in them, and that workers, batches and interruptions change nothing."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.io.transforms import resize_mask, to_image, to_input
from mshnet_pl.data.loading.loaders import EpisodeStream
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.options import NovelPixels, Protocol, Subset, ValClasses


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def pascal(root: Path, **settings: object) -> EpisodeDataModule:
    source = Pascal5i(str(root), str(root / "splits"))
    module = EpisodeDataModule(source, image_size=33, batch_size=4, **settings)  # type: ignore[arg-type]
    module.setup()
    return module


def first(module: EpisodeDataModule, episodes: int) -> Episode:
    stream = module.train_dataloader()
    batches = list(islice(iter(stream), -(-episodes // 4)))
    return Episode(*(torch.cat(parts)[:episodes] for parts in zip(*batches, strict=True)))


def same(a: Episode, b: Episode) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("workers", [1, 4])
def test_workers_and_batch_size_change_no_episode(workers: int) -> None:
    def episodes(num_workers: int, batch_size: int) -> tuple[Episode, Episode]:
        module = EpisodeDataModule(
            Synthetic(33), shot=2, seed=5, image_size=33, batch_size=batch_size, num_workers=num_workers, val_episodes=12
        )
        module.setup()
        loaders = (islice(iter(module.train_dataloader()), 12 // batch_size), module.val_dataloader())
        train, val = (Episode(*map(torch.cat, zip(*loader, strict=True))) for loader in loaders)
        return train, val

    for expected, found in zip(episodes(0, 4), episodes(workers, 3), strict=True):
        assert same(expected, found)


def test_a_stream_goes_on_where_it_stopped() -> None:
    module = EpisodeDataModule(Synthetic(33), image_size=33, batch_size=2)
    module.setup()
    whole = list(islice(iter(module.train_dataloader()), 7))
    stream = module.train_dataloader()
    before = list(islice(iter(stream), 3))
    state = stream.state_dict()
    resumed = module.train_dataloader()
    resumed.load_state_dict(state)
    after = list(islice(iter(resumed), 4))
    assert all(same(a, b) for a, b in zip(whole, before + after, strict=True))
    assert isinstance(stream, EpisodeStream) and len(stream) == 15 * 50 // 2


def test_processes_share_the_stream() -> None:
    module = EpisodeDataModule(Synthetic(33), image_size=33, batch_size=2)
    module.setup()
    dataset = module.train_dataloader().dataset
    parts = [EpisodeStream(dataset, 2, 0, rank, 3) for rank in range(3)]  # type: ignore[arg-type]
    numbers = [[batch.number.tolist() for batch in islice(iter(part), 2)] for part in parts]
    assert numbers == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]
    assert len(parts[0]) == 15 * 50 // 6


def test_an_episode_holds_its_class(pascal_root: Path) -> None:
    module = pascal(pascal_root, fold=1, shot=2, novel_pixels=NovelPixels.keep)
    source = module._source
    draws = module.draws(40, 2, 0, Protocol.seeded)
    module.use_test_episodes(draws)
    for batch, start in zip(module.test_dataloader(), range(0, 40, 4), strict=True):
        for i, (draw,) in enumerate(draws[start : start + 4]):
            assert batch.class_id[i] == draw.class_id and 5 <= draw.class_id < 10
            assert batch.number[i] == start + i
            torch.testing.assert_close(batch.query[i], to_input(source.image(draw.query), 33))
            truth = torch.from_numpy(source.mask(draw.query, [draw.class_id]))
            expected = interpolate(truth[None, None], (33, 33), mode="nearest")[0, 0]
            assert torch.equal(batch.query_mask[i], expected) and set(batch.support_mask[i].unique().tolist()) <= {0.0, 1.0}
            for k, name in enumerate(draw.supports):
                support = resize_mask(source.mask(name, [draw.class_id]), 33)
                assert torch.equal(batch.support_mask[i, k], (support == 1).float())


def test_original_size_pads_with_unknown(pascal_root: Path) -> None:
    module = pascal(pascal_root)
    draws = module.draws(4, 1, 0, Protocol.published)
    module.use_test_episodes(draws, original_size=True)
    (batch,) = module.test_dataloader()
    logits = torch.randn(4, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = predict_labels(logits, batch)
    for i, (draw,) in enumerate(draws):
        height, width = batch.query_size[i].tolist()
        truth = module._source.mask(draw.query, [draw.class_id])
        np.testing.assert_array_equal(batch.query_mask[i, :height, :width].numpy(), truth)
        assert (batch.query_mask[i, height:] == 255).all() and (batch.query_mask[i, :, width:] == 255).all()
        upsampled = interpolate(logits[i : i + 1], (height, width), mode="bilinear", align_corners=True)
        agree = labels[i, :height, :width] == upsampled[0].argmax(0)
        assert agree.double().mean() > 0.999  # rounding may turn a tie


def test_ways_are_rows_of_one_query() -> None:
    source = Synthetic(48)
    module = EpisodeDataModule(source, shot=2, way=3, image_size=48, batch_size=2)
    draws = module.draws(4, 2, 0, Protocol.seeded)
    module.use_test_episodes(draws)
    for batch, episodes in zip(module.test_dataloader(), (draws[:2], draws[2:]), strict=True):
        rows = [draw for ways in episodes for draw in ways]
        assert batch.support.shape[:2] == (6, 2) and batch.number[0] == batch.number[2] != batch.number[3]
        for i, draw in enumerate(rows):
            torch.testing.assert_close(batch.query[i], to_input(source.image(draw.query), 48))
            truth = torch.from_numpy(source.mask(draw.query, [draw.class_id]))
            assert torch.equal(batch.query_mask[i], truth)
        logits = torch.randn(6, 2, 48, 48, generator=torch.Generator().manual_seed(0))
        labels = predict_labels(logits, batch)
        margins = (logits[:, 1] - logits[:, 0]).view(2, 3, 48, 48)
        for episode, way, y, x in np.ndindex(2, 3, 48, 48):
            wins = margins[episode, way, y, x] > 0 and margins[episode, :, y, x].argmax() == way
            assert labels[3 * episode + way, y, x] == int(wins)


def holders(module: EpisodeDataModule, classes: tuple[int, ...]) -> set[str]:
    contents = module._source.contents(Subset.TRAIN)
    return {name for names in module._images.train.values() for name in names if set(classes) & set(contents[name])}


def test_novel_pixels(pascal_root: Path) -> None:
    keep = pascal(pascal_root, novel_pixels=NovelPixels.keep)
    drop = pascal(pascal_root, novel_pixels=NovelPixels.drop)
    assert holders(keep, keep.fold.novel) and keep.removed == 0
    assert not holders(drop, drop.fold.novel)
    assert drop.removed == len(holders(keep, keep.fold.novel))
    assert not set(drop._images.train) & set(drop.fold.novel)

    ignore = first(pascal(pascal_root, novel_pixels=NovelPixels.ignore), 40)
    kept = first(keep, 40)
    assert torch.equal(ignore.query, kept.query) and torch.equal(ignore.support_mask, kept.support_mask)
    hidden = (ignore.query_mask == 255) & (kept.query_mask != 255)
    assert hidden.any() and (kept.query_mask[hidden] == 0).all()
    assert torch.equal(ignore.query_mask[~hidden], kept.query_mask[~hidden])


def test_base_classes_held_out_for_validation(pascal_root: Path) -> None:
    module = pascal(pascal_root, val_classes=ValClasses.base_heldout, val_heldout=2, val_episodes=20)
    seen = {int(c) for batch in module.val_dataloader() for c in batch.class_id}
    assert seen == {18, 19} and not seen & set(module._images.train)
    assert not holders(module, (*module.fold.novel, 18, 19))


def test_small_classes_are_named_or_left_out(pascal_root: Path) -> None:
    path = pascal_root / "splits" / "trn" / "fold2.txt"
    path.write_text("\n".join(line for line in path.read_text().split() if not line.endswith("__12")) + "\ntrn_12_0__12\n")
    with pytest.raises(DataError, match=r"dog \(class 11\): 1"):
        pascal(pascal_root, novel_pixels=NovelPixels.keep).train_dataloader()
    module = pascal(pascal_root, novel_pixels=NovelPixels.keep, min_images=2)
    assert 11 not in first(module, 40).class_id.tolist()
    with pytest.raises(DataError, match="min_images=99 leaves no class"):
        pascal(pascal_root, min_images=99)
    with pytest.raises(ConfigError, match="fold=4: there are folds 0 to 3"):
        pascal(pascal_root, fold=4)


def test_drawn_images_are_the_same_anywhere_and_hold_distractors() -> None:
    source, again, other = Synthetic(64), Synthetic(64), Synthetic(64, seed=1)
    looks = {tuple(name.split()) for name in source.classes}
    assert len(looks) == 20 and all(len({n.split()[2] for n in source.classes[5 * f : 5 * f + 5]}) == 5 for f in range(4))
    for name, class_id in source.pairs(Subset.VAL)[::37]:
        image = np.asarray(source.image(name))
        np.testing.assert_array_equal(image, np.asarray(again.image(name)))
        assert (image != np.asarray(other.image(name))).any()
        own, present = source.mask(name, [class_id]), source.contents(Subset.VAL)[name]
        others = source.mask(name, [c for c in present if c != class_id])
        assert len(present) == 3 and class_id in present
        assert own.sum() > 20 and others.sum() > 20 and not (own & others).any()
    with pytest.raises(ValueError, match=r"data\.source\.size=0"):
        Synthetic(0)


def test_images_survive_normalisation() -> None:
    image = Synthetic(40).image("val-03-0001")
    tensor: Tensor = to_input(image, 40)
    np.testing.assert_array_equal(to_image(tensor), np.asarray(image))
