"""Augmentation: image and mask move together, everything follows from (seed, number), and off means untouched."""

from itertools import islice

import pytest
import torch
from torch import Tensor

from conftest import Command
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.io.transforms import resize_mask, to_input
from mshnet_pl.data.loading.augmentation import Augment
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError
from mshnet_pl.options import Protocol

SIZE = 64
ALL = {"flip": True, "crop_scale": 0.3, "jitter": 0.4, "rotate": 20.0, "zoom": 0.3, "blur": True}


def blobs(number: int) -> Tensor:
    """A mask of smooth random shapes."""
    noise = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(number))
    return (torch.nn.functional.interpolate(noise, (SIZE, SIZE), mode="bicubic")[0, 0] > 0.4).byte()


def change(augment: Augment, image: Tensor, mask: Tensor, number: int, picture: int) -> tuple[Tensor, Tensor]:
    image, masks = augment(image, mask[None], number, picture)
    return image, masks[0]


def episodes(augment: Augment | None, workers: int = 0, batches: int = 8) -> Episode:
    module = EpisodeDataModule(
        Synthetic(SIZE), shot=2, seed=3, image_size=SIZE, batch_size=3, num_workers=workers, augment=augment
    )
    module.setup()
    return Episode(*map(torch.cat, zip(*islice(iter(module.train_dataloader()), batches), strict=True)))


def same(a: Episode, b: Episode) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_image_and_mask_turn_and_zoom_together() -> None:
    augment = Augment(0, rotate=30.0, zoom=0.4)
    filled = moved = 0
    for number in range(30):
        mask = blobs(number)
        image, label = change(augment, mask[..., None].expand(-1, -1, 3) * 255, mask, number, 0)
        known = label != 255
        filled += int((~known).any())
        pixels = image[..., 0].float() / 255
        assert (((pixels > 0.5).byte() != label) & known).float().mean() < 0.05
        moved += int(not torch.equal(label, mask))
        inner = pixels[~known]  # ImageNet's mean but at the seam
        assert len(inner) < 20 or (inner - 0.485).abs().median() < 0.01
    assert 10 < filled < 30 and moved > 25


def test_image_and_mask_move_together() -> None:
    augment = Augment(0, flip=True, crop_scale=0.2)
    moved = 0
    for number in range(40):
        mask = blobs(number)
        image, label = change(augment, mask[..., None].expand(-1, -1, 3) * 255, mask, number, 0)
        assert image.dtype == label.dtype == torch.uint8 and type(image) is type(label) is Tensor
        assert set(label.unique().tolist()) <= {0, 1}
        pixels = image[..., 0].float() / 255
        apart = ((pixels > 0.5).byte() != label).float().mean()
        assert apart < 0.05  # bilinear and nearest differ on edges only
        assert ((pixels > 0.9) & (label == 0)).float().mean() < 0.005
        assert ((pixels > 0.5).byte() != label.flip(1)).float().mean() > 2 * apart
        moved += int(not torch.equal(label, mask))
    assert moved == 40


def test_flip_alone_is_exact_and_fair() -> None:
    augment, mask = Augment(0, flip=True), blobs(0)
    image = torch.randint(256, (SIZE, SIZE, 3), dtype=torch.uint8)
    flipped = 0
    for number in range(100):
        found, label = change(augment, image, mask, number, 1)
        turn = torch.equal(label, mask.flip(1))
        assert torch.equal(found, image.flip(1) if turn else image) and (turn or torch.equal(label, mask))
        flipped += turn
    assert 35 <= flipped <= 65


def test_jitter_leaves_the_mask() -> None:
    image, mask = torch.randint(256, (SIZE, SIZE, 3), dtype=torch.uint8), blobs(0)
    found, label = change(Augment(0, jitter=0.4), image, mask, 0, 0)
    assert torch.equal(label, mask) and not torch.equal(found, image)


def test_a_lost_object_undoes_the_crop() -> None:
    mask = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    mask[2, 3] = 1
    mask[:, 40:] = 255
    image = torch.randint(256, (SIZE, SIZE, 3), dtype=torch.uint8)
    augment = Augment(0, crop_scale=0.05)
    kept = 0
    for number in range(60):
        found, label = change(augment, image, mask, number, 0)
        assert (label == 1).any()
        if torch.equal(label, mask):
            assert torch.equal(found, image)
            kept += 1
    assert 30 < kept < 60
    assert not torch.equal(change(augment, image, mask * 0 + 255, 0, 0)[0], image)  # nothing to lose, so the crop stays


def test_workers_change_nothing_and_the_seed_does() -> None:
    first = episodes(Augment(3, **ALL))
    assert same(first, episodes(Augment(3, **ALL), workers=2))
    other = episodes(Augment(4, **ALL))
    assert not torch.equal(first.query, other.query) and torch.equal(first.number, other.number)
    assert (first.support_mask.flatten(2).sum(-1) > 0).all()


def test_pictures_of_an_episode_change_independently() -> None:
    augment, mask = Augment(0, crop_scale=0.3), blobs(1)
    image = mask[..., None].expand(-1, -1, 3) * 200
    results = [change(augment, image, mask, number, picture)[1] for number in range(2) for picture in range(3)]
    assert len({tuple(result.flatten().tolist()) for result in results}) == 6


def test_no_other_random_number_is_touched() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    change(Augment(0, **ALL), torch.zeros(SIZE, SIZE, 3, dtype=torch.uint8), blobs(0), 0, 0)
    assert torch.equal(torch.rand(3), expected)


def test_off_means_untouched_and_tests_are_never_augmented() -> None:
    source = Synthetic(SIZE)
    plain = episodes(None)
    assert not Augment(0) and same(plain, episodes(Augment(0)))
    module = EpisodeDataModule(source, image_size=SIZE, batch_size=3, val_episodes=3, augment=Augment(0, **ALL))
    reference = EpisodeDataModule(source, image_size=SIZE, batch_size=3, val_episodes=3)
    for each in (module, reference):
        each.setup()
        each.use_test_episodes(each.draws(3, 1, 0, Protocol.seeded))
    for loader in ("val_dataloader", "test_dataloader"):
        assert all(same(a, b) for a, b in zip(getattr(module, loader)(), getattr(reference, loader)(), strict=True))
    assert not same(plain, episodes(Augment(3, **ALL)))
    ((draw,),) = reference.draws(1, 1, 0, Protocol.seeded)
    batch = next(iter(reference.test_dataloader()))
    assert torch.equal(batch.query[0], to_input(source.image(draw.query), SIZE))
    assert torch.equal(batch.query_mask[0], resize_mask(source.mask(draw.query, [draw.class_id]), SIZE))


def test_bad_settings_are_named(command: Command) -> None:
    with pytest.raises(ConfigError, match=r"data\.augment\.crop_scale=0"):
        Augment(0, crop_scale=0.0)
    with pytest.raises(ConfigError, match=r"data\.augment\.jitter=1\.5"):
        Augment(0, jitter=1.5)
    done = command(
        "mshnet-train", "data.augment.crop_scale=2", "data.augment.jitter=-1", "data.cache_mb=-5", "data.cache_dir=here"
    )
    assert done.code == 2
    for part in ("data.augment.crop_scale=2", "data.augment.jitter=-1", "data.cache_mb=-5"):
        assert part in done.err + done.out
