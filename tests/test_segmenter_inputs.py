"""What a segmenter takes: pictures and masks of any kind, and files of supports; what it refuses."""

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image

from mshnet_pl import Segmenter
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference import support_file
from mshnet_pl.inference.predictor import numbers
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.builder import read_method
from mshnet_pl.options import UNKNOWN
from segmenter_shots import QUERY, SIZE, shown
from segmenter_shots import method as method
from segmenter_shots import segmenter as segmenter


def test_any_kind_of_picture(segmenter: Segmenter, tmp_path: Path) -> None:
    pixels = np.asarray(QUERY).copy()
    pixels[0, 0] = 255
    transposed = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = transposed.getexif()
    exif[0x0112] = 6  # to be turned by 270 degrees counterclockwise
    transposed.save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    opaque = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 7, np.uint8)], axis=2)
    pictures = [
        pixels, tmp_path / "plain.png", str(tmp_path / "plain.png"), tmp_path / "turned.png", Image.fromarray(pixels),
        Image.fromarray(opaque), opaque, pixels.astype(np.uint16) * 257, pixels.astype(np.int64), pixels / 255,
        torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(pixels / 255).permute(2, 0, 1).float(),
    ]  # fmt: skip
    expected, *others = (segmenter.predict_proba(picture) for picture in pictures)
    for i, other in enumerate(others):
        assert np.array_equal(other, expected), f"picture {i + 1}"
    assert np.array_equal(segmenter.predict_proba(path for path in [tmp_path / "plain.png"])[0], expected)

    gray = pixels[..., 1]
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.tif")
    Image.fromarray(gray).convert("P").save(tmp_path / "palette.png", transparency=bytes(range(256)))
    grays = [gray, gray[..., None], Image.fromarray(gray), tmp_path / "deep.tif", tmp_path / "palette.png"]
    grays += [torch.from_numpy(gray), np.repeat(gray[..., None], 3, axis=2), Image.fromarray(gray).convert("LA")]
    expected, *others = (segmenter.predict_proba(picture) for picture in grays)
    for i, other in enumerate(others):
        assert np.array_equal(other, expected), f"gray picture {i + 1}"
    twelve_bits = np.round(gray * (4095 / 255)).astype(np.uint16)
    assert np.array_equal(segmenter.predict_proba(twelve_bits), expected)


def test_any_kind_of_mask(segmenter: Segmenter, tmp_path: Path) -> None:
    images, masks = shown(0, 1)
    expected = segmenter.fit(images, masks).predict_proba(QUERY)
    binary = Image.fromarray(masks[0] * 255)
    binary.save(tmp_path / "mask.png")
    palette = Image.fromarray(masks[0] * 3 + (1 - masks[0]) * 5)
    palette.putpalette([9, 8, 7] * 256)
    palette.save(tmp_path / "palette.png")
    for mask in (
        tmp_path / "mask.png", binary, binary.convert("RGBA"), binary.convert("1"), masks[0].astype(bool),
        masks[0].astype(float), torch.from_numpy(masks[0])[None], masks[0].astype(np.int32) * 40_000,
    ):  # fmt: skip
        assert np.array_equal(segmenter.fit(images[0], mask).predict_proba(QUERY), expected)
    assert np.array_equal(segmenter.fit(images, tmp_path / "palette.png", value=3).predict_proba(QUERY), expected)
    with pytest.raises(DataError, match=r"3 #090807 \(\d+ pixels\), 5 #090807"):
        segmenter.fit(images, tmp_path / "palette.png")
    with_unknown = np.where(masks[0] == 1, UNKNOWN, 0)
    assert np.array_equal(segmenter.fit(images, with_unknown).predict_proba(QUERY), expected)


def test_supports_are_kept_in_files(method: AbstractMethod, segmenter: Segmenter, checkpoint: Path, tmp_path: Path) -> None:
    segmenter.fit("other", *shown(1, 3))
    path = tmp_path / "support.safetensors"
    segmenter.save_support(path)
    loaded = Segmenter.from_checkpoint(checkpoint, "cpu").load_support(path)
    assert loaded.classes == segmenter.classes == ("object", "other")
    assert np.allclose(loaded.predict_proba(QUERY), segmenter.predict_proba(QUERY), atol=1e-6)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is there"):
        loaded.save_support(path)
    assert path.read_bytes() == before
    loaded.save_support(path, overwrite=True)
    changed = read_method(checkpoint).method
    with torch.no_grad():
        next(changed.parameters()).add_(1e-3)
    for other, said in (
        (Segmenter(changed, SIZE), "another network;"),
        (Segmenter(method, SIZE + 32), f"other settings: image_size={SIZE} .not {SIZE + 32}.;"),
        (Segmenter(method, SIZE, bf16=True), "other settings: bf16=False .not True.;"),
    ):
        with pytest.raises(DataError, match=f"belongs to {said}"):
            other.load_support(path)
        assert other.classes == ()
    path.write_bytes(before[:-9])
    with pytest.raises(DataError, match="no file of save_support"):
        loaded.load_support(path)
    with pytest.raises(ConfigError, match="nothing is fitted"):
        Segmenter(method, SIZE).save_support(tmp_path / "none")


@pytest.mark.parametrize(
    "forge",
    [
        lambda tensors, about: tensors.clear(),
        lambda tensors, about: tensors.pop(min(tensors)),
        lambda tensors, about: tensors.update({min(tensors): torch.zeros(3)}),
        lambda tensors, about: tensors.update({name: value.repeat_interleave(2, 0) for name, value in tensors.items()}),
        lambda tensors, about: tensors.update({name: value[..., :1].contiguous() for name, value in tensors.items()}),
        lambda tensors, about: tensors.update({name: value.nan_to_num() * torch.nan for name, value in tensors.items()}),
        lambda tensors, about: about.update(classes='["a", "b"]'),
        lambda tensors, about: about.update(classes="[]"),
        lambda tensors, about: about.update(classes="[[1]]"),
        lambda tensors, about: about.update(classes="[1]"),
        lambda tensors, about: about.update(bits="99"),
        lambda tensors, about: about.update(bits="7"),
    ],
)
def test_forged_supports(segmenter: Segmenter, tmp_path: Path, forge: Callable[[Any, Any], Any]) -> None:
    """Checksum and network are right, but the content is nothing that was ever fitted."""
    path = tmp_path / "support"
    segmenter.save_support(path)
    with safetensors.safe_open(path, "pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    del about["checksum"]
    forge(tensors, about)
    about["checksum"] = support_file._checksum(about, tensors)
    path.write_bytes(safetensors.torch.save(tensors, about))
    fresh = segmenter.fresh()
    with pytest.raises(DataError, match=r"(?s)support .*; fit the images anew"):
        fresh.load_support(path)
    assert fresh.classes == () and fresh.bits == 8


def test_files_keep_how_deep_the_supports_are(method: AbstractMethod, segmenter: Segmenter, tmp_path: Path) -> None:
    gray = np.asarray(QUERY.convert("L")).astype(np.uint16)
    mask = np.asarray(QUERY.convert("L")) > gray.mean()
    deep = segmenter.fresh().fit(gray * 16, mask)  # of 12 bits
    deep.save_support(tmp_path / "deep")
    dark = gray * 2  # of 9 bits, which alone would have the scale of 10
    expected = deep.predict_proba(dark)
    assert not np.allclose(segmenter.fresh().fit(gray, mask).predict_proba(dark), expected, atol=1e-3)
    assert np.allclose(segmenter.fresh().load_support(tmp_path / "deep").predict_proba(dark), expected, atol=1e-6)
    segmenter.fit("shallow", *shown(1, 1)).save_support(tmp_path / "shallow")
    both = segmenter.fresh().load_support(tmp_path / "deep").load_support(tmp_path / "shallow")
    assert np.allclose(deep.load_support(tmp_path / "shallow").predict_proba(dark), both.predict_proba(dark), atol=1e-6)


def test_classes_share_one_scale_of_deep_pictures(segmenter: Segmenter, tmp_path: Path) -> None:
    gray = np.asarray(QUERY.convert("L")).astype(np.uint16)
    mask = gray > gray.mean()
    two = segmenter.fresh().fit("deep", gray * 256, mask).fit("less", gray * 16, mask)
    expected = two.predict_proba(gray * 256)
    other = segmenter.fresh().fit("plain", *shown(0, 1)).fit("less", gray * 16, mask)
    with pytest.raises(DataError, match=r"deep: images of 16 bits, but .* a scale of 12; fit the deepest first"):
        other.fit("deep", gray * 256, mask)
    assert other.classes == ("plain", "less") and other.bits == 12
    one = segmenter.fresh().fit("deep", gray * 16, mask).fit("deep", gray * 256, mask)  # alone it may have another scale
    one.save_support(tmp_path / "deeper")
    with pytest.raises(DataError, match=r"deeper: fitted on a scale of 16 bits, but other classes on 12; fit all .* anew"):
        other.load_support(tmp_path / "deeper")
    assert other.classes == ("plain", "less") and other.bits == 12
    assert one.fit("deep", gray * 16, mask).bits == 12
    assert one.load_support(tmp_path / "deeper").bits == 16
    assert np.array_equal(two.predict_proba(gray * 256), expected)


def test_a_segmenter_passes_to_another_process(checkpoint: Path) -> None:
    segmenter = Segmenter.from_checkpoint(checkpoint, "cpu", guided=np.float64(0.1), zooms=(1.5,))
    assert segmenter.settings["zooms"] == [1.5] and type(segmenter.settings["guided"]) is float
    segmenter.fit(*shown(0, 2))
    passed = pickle.loads(pickle.dumps(segmenter))
    assert np.array_equal(passed.predict_proba(QUERY), segmenter.predict_proba(QUERY))
    assert passed.source.describe() == segmenter.source.describe()


def test_the_program_around_it_keeps_its_random_numbers_and_may_compute_in_double_precision() -> None:
    generator = np.random.default_rng(0)
    image, mask = generator.integers(0, 255, (60, 80, 3), np.uint8), np.zeros((60, 80), np.uint8)
    mask[20:40, 30:60] = 1

    def labels() -> list[Any]:
        segmenter = Segmenter.from_pretrained().fit("mask", image, mask)
        segmenter.fit("box", image, boxes=(30, 20, 60, 40))
        segmenter.fit("marks", image, points=(45, 30, 1), scribbles=[(32, 22), (58, 38)])
        return [segmenter.predict(image), segmenter.predict(np.tile(image, (1, 5, 1)), tile=300)]

    state, plain = torch.get_rng_state(), labels()
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_default_dtype(torch.float64)
    try:
        double = labels()
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(plain, double, strict=True):
        np.testing.assert_array_equal(one, other)


def test_files_keep_the_supports_of_every_view(method: AbstractMethod, tmp_path: Path) -> None:
    settings = {"flip": True, "scales": [1.0, 1.5], "fusion": "mean", "guided": 0.1, "zooms": [1.5]}
    segmenter = Segmenter(method, SIZE, **settings).fit(*shown(0, 2)).fit("other", *shown(1, 3))
    segmenter.save_support(tmp_path / "views")
    loaded = segmenter.fresh().load_support(tmp_path / "views")
    assert loaded.settings == settings and segmenter.fresh().classes == ()
    assert np.allclose(loaded.predict_proba(QUERY), segmenter.predict_proba(QUERY), atol=1e-6)
    sharper = Segmenter(method, SIZE, **{**settings, "guided": 0.0}).load_support(tmp_path / "views")
    assert not np.allclose(sharper.predict_proba(QUERY), segmenter.predict_proba(QUERY), atol=1e-3)
    changes: dict[str, Any] = {"flip": False, "scales": [1.0], "fusion": "network", "zooms": []}
    for key, value in changes.items():
        with pytest.raises(DataError) as error:
            Segmenter(method, SIZE, **{**settings, key: value}).load_support(tmp_path / "views")
        assert f"views belongs to other settings: {key}={settings[key]} (not {value}); fit" in str(error.value)


def test_doubtful_masks_are_named(segmenter: Segmenter, caplog: pytest.LogCaptureFixture) -> None:
    images, masks = shown(0, 2)
    segmenter.fit("whole", images[0], np.pad(np.ones((89, 89), np.uint8), ((0, 1), (0, 1))), titles=["all.png"])
    segmenter.fit("map", images, [3 * masks[0], 5 * masks[1]])
    segmenter.fit("map", images, [255 * masks[0], masks[1]])
    segmenter.fit("map", images, [3 * masks[0], 3 * masks[1]])
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "all.png: the object covers 97.8% of the picture: is it the background?",
        "map: the object is 3 in map: mask 0, 5 in map: mask 1; if these are label maps, give value=VALUE",
    ]


def bad_fits(folder: Path) -> Sequence[tuple[tuple[Any, ...], str]]:
    images, masks = shown(0, 2)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.fromarray(masks[0]).save(folder / "mask.jpg")
    frames = [Image.fromarray(mask) for mask in masks]
    frames[0].save(folder / "stack.tif", save_all=True, append_images=frames[1:])
    colours = np.stack([masks[0], masks[0], 1 - masks[0]], axis=2)
    dot = np.zeros((90, 90), np.uint8)
    dot[1, 1] = 1
    large = np.pad(dot, ((0, 900), (0, 900)))
    return [
        ((images, masks[:1]), "2 images and 1 masks"),
        (([], []), "0 images and 0 masks"),
        ((images, masks[::-1]), r"mask 0 has 85 x 90 pixels, but its image has 90 x 90"),
        (("cat", images[0], np.zeros((90, 90))), "cat: mask 0: no pixel above 0.5"),
        ((np.zeros((990, 990)), large), "vanishes at 64 x 64"),
        ((images[0], colours), "a coloured mask"),
        ((images[0], masks[0][None, None]), "mask of one channel"),
        ((folder / "broken.png", masks[0]), r"broken\.png"),
        ((folder / "none.png", masks[0]), r"none\.png"),
        ((images[0], folder / "mask.jpg"), "which JPEG blurs"),
        ((folder / "stack.tif", masks[0]), r"stack\.tif: 2 pages"),
        ((folder, masks[0]), "a folder; give the pictures in it"),
        (("", masks[0]), "image 0: an empty name"),
        ((images[0], ""), "mask 0: an empty name"),
        ((io.BytesIO(b"abc"), masks[0]), "images: of type BytesIO"),
        ((np.full((9, 9), 1.5), np.ones((9, 9))), "image 0: floating-point values from 1.5 to 1.5"),
        ((np.full((9, 9), np.nan), np.ones((9, 9))), "nan"),
        ((np.full((9, 9), -4), np.ones((9, 9))), "from -4 to -4"),
        ((np.zeros((9, 9, 5)), np.ones((9, 9))), r"shape \(9, 9, 5\)"),
        ((np.zeros((0, 9)), np.ones((0, 9))), r"shape \(0, 9\)"),
    ]


def test_what_cannot_be_fitted_is_explained(method: AbstractMethod, tmp_path: Path) -> None:
    segmenter = Segmenter(method, SIZE)
    for support, message in bad_fits(tmp_path):
        with pytest.raises(DataError, match=message):
            segmenter.fit(*support)
    with pytest.raises(DataError, match="no pixel of value 7, only"):
        segmenter.fit(*shown(0, 1), value=7)
    with pytest.raises(ConfigError, match=r"value=7 is for masks .*; leave it out with boxes"):
        segmenter.fit(QUERY, boxes=[1, 2, 30, 40], value=7)
    for given, named, message in (
        (shown(0, 1), {"value": True}, "value=True is of type bool; give"),
        (shown(0, 2), {"titles": ["a"]}, "1 titles and 2 masks; give one for each"),
        (([],), {"boxes": []}, "object: no image; give at least one"),
        ((QUERY,), {"points": [True, False]}, "points: true and false; give x, y"),
        ((QUERY,), {"points": [1 + 2j, 3]}, "is no array of numbers"),
    ):
        with pytest.raises(DataError, match=message):
            segmenter.fit(*given, **named)  # type: ignore[call-overload]
    assert segmenter.classes == ()
    with pytest.raises(ConfigError, match="nothing is fitted"):
        segmenter.predict(QUERY)


@pytest.mark.parametrize("settings", [{"threshold": 0.0}, {"threshold": 1.2}, {"tile": 31}])
def test_impossible_settings_are_refused(segmenter: Segmenter, settings: dict[str, Any]) -> None:
    ((key, value),) = settings.items()
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        segmenter.predict(QUERY, **settings)


def test_what_no_segmenter_can_be_made_of_is_refused(method: AbstractMethod) -> None:
    with pytest.raises(ConfigError, match="device=gpu"):
        Segmenter(method, SIZE, "gpu")
    for batch_size in (0, True):
        with pytest.raises(ConfigError, match=f"batch_size={batch_size}"):
            Segmenter(method, SIZE, batch_size=batch_size)
    for size in (0, 31, 100_000):
        with pytest.raises(ConfigError, match=f"image_size={size}: give a whole number of at least 32 and at most 4096"):
            Segmenter(method, size)
    with pytest.raises(ConfigError, match=r"guided=0\.6: .*0\.008 to 0\.5"):
        Segmenter(method, SIZE, guided=0.6)
    with pytest.raises(ConfigError, match=r"scales=0\.4: .*0\.50"):
        Segmenter(method, SIZE, scales=[1.0, 0.4])
    for given in (1.5, "12"):
        with pytest.raises(ConfigError, match=f"zooms={given}: give a list of numbers"):
            numbers("zooms", given)
    with pytest.raises(ConfigError, match="ckpt=: an empty name"):
        Segmenter.from_pretrained("")
    with pytest.raises(ConfigError, match="fusion=sum: give network, mean, vote"):
        Segmenter(method, SIZE, fusion="sum")
