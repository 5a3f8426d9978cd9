"""A trained network for use on one's own images: plain PyTorch."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from PIL import Image
from torch import Tensor

from mshnet_pl.data.io.images import ImageLike, ImagesLike, as_iterable, is_one, read_image
from mshnet_pl.data.io.marks import Marks
from mshnet_pl.data.io.transforms import resize_mask, to_input
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference import pretrained, support_file
from mshnet_pl.inference.energy_maps import fitted_name, mean_maps
from mshnet_pl.inference.labels import min_margin, to_labels, to_probabilities, without_negatives
from mshnet_pl.inference.predictor import PredictionSettings, Predictor, SupportCodes, numbers
from mshnet_pl.inference.shots import MarkOptions, MaskOptions, arguments, at_size, marks_of, read_shots
from mshnet_pl.inference.tiling import batches, blend, boxes, check_tile
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.options import DEFAULT_NETWORK, Fusion, segmenter_problems
from mshnet_pl.utils.places import given_place

Labels = Integer[np.ndarray, "height width"]
Probabilities = Float[np.ndarray, "*classes height width"]
Titles = Sequence[str] | None


class Segmenter:
    """Segments images with the help of a few masked ones, which it looks at once.

    >>> import numpy as np
    >>> photo = np.full((96, 128, 3), 90, np.uint8)
    >>> photo[20:60, 30:80] = 250, 160, 0
    >>> segmenter = Segmenter.from_pretrained(device="cpu").fit("box", photo, photo[..., 0] == 250)
    >>> segmenter.predict(photo).shape
    (96, 128)
    >>> [labels.shape for labels in segmenter.predict([photo, photo[::2]])]
    [(96, 128), (48, 128)]
    >>> segmenter
    <Segmenter training-free: DensityRatio on EfficientNetLite0, 473 pixels a side, cpu, fitted: box>

    One picture in gives one result out, an iterable of pictures a list. They are whatever ``data.io.images`` reads: paths,
    Pillow images, arrays (H, W[, C]), tensors ([C,] H, W). Those of more than 8 bits have the scale of the deepest support,
    or a larger one if they are deeper. All are resized to the square that the network was trained on; predictions have the
    pictures' own sizes. Once fitted, a segmenter may be used by several threads.

    Args:
        method: a trained method; put into eval mode and onto ``device``.
        image_size: side S of the square that images are resized to.
        device: such as ``cpu`` or ``cuda:1``; CUDA where there is one, by default.
        batch_size: how many pictures go through the network at a time.
        bf16: compute in bfloat16 where that is safe.
        flip: average over the mirrored pictures too, as ``eval.flip`` does in tests.
        scales: average over pictures resized by these factors of the side, as ``eval.scales`` does.
        fusion: how several supports become one, as ``eval.fusion``; after ``vote`` a margin is the share of votes less 0.5.
        guided: smooth predictions along the pictures' colours, as ``eval.guided`` does, 0.09 for instance; 0 for not.
        zooms: also look at supports from nearer, as ``eval.zooms`` does, such as 1.2 and 2.
        source: where the method comes from, which ``save_pretrained`` writes down.

    Raises:
        ConfigError: no such device, a batch size below 1, or an impossible scale, fusion or radius.
    """

    def __init__(
        self,
        method: AbstractMethod,
        image_size: int,
        device: str | torch.device | None = None,
        batch_size: int = 8,
        bf16: bool = False,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        fusion: str = Fusion.network,
        guided: float = 0.0,
        zooms: Sequence[float] = (),
        source: pretrained.Pretrained | None = None,
    ) -> None:
        scales, zooms = numbers("scales", scales), numbers("zooms", zooms)
        for problem in segmenter_problems(image_size, batch_size, guided, scales):
            raise ConfigError(problem)
        try:
            self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            self.method = method.to(self._device).eval()
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # for a device that is not there
            raise ConfigError(f"device={device}: {error}; give cpu, or leave it out") from error
        self.image_size, self._batch_size, self._bf16 = image_size, batch_size, bf16
        self._predictor = Predictor(self.method, flip, scales, fusion, guided, zooms, batch_size=batch_size)
        self._codes: dict[str, SupportCodes] = {}
        self._negatives: frozenset[str] = frozenset()
        self.bits = 8
        """Of the scale of deeper pictures; as deep as the deepest support."""
        self.source = source

    def __repr__(self) -> str:
        """The network, and what is fitted."""
        name = f" {self.source.name}" if self.source else ""
        network = f"{type(self.method).__name__} on {type(self.method.backbone).__name__}"
        fitted = ", ".join(f"not {name}" if name in self._negatives else name for name in self._codes) or "nothing yet"
        return f"<Segmenter{name}: {network}, {self.image_size} pixels a side, {self._device}, fitted: {fitted}>"

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str] = DEFAULT_NETWORK,
        device: str | torch.device | None = None,
        batch_size: int = 8,
        bf16: bool = False,
        **prediction: Unpack[PredictionSettings],
    ) -> "Segmenter":
        """A network by its name: of this package, of a folder of ``save_pretrained``, of a hub, or a checkpoint's path.

        Args:
            name: see ``inference.pretrained``; nothing in a file is executed.
            device: as the constructor's, like ``batch_size`` and ``bf16``.
            batch_size: how many pictures go through the network at a time.
            bf16: compute in bfloat16 where that is safe.
            **prediction: ``PredictionSettings``; the file's own where they are left out.

        Raises:
            ConfigError: as ``inference.pretrained.load``, or the constructor.
        """
        source = pretrained.load(name)
        source.warn()
        given: Mapping[str, Any] = prediction
        settings = {**source.trained.prediction, **{key: value for key, value in given.items() if value is not None}}
        return cls(source.trained.method, source.trained.image_size, device, batch_size, bf16, source=source, **settings)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        device: str | torch.device | None = None,
        batch_size: int = 8,
        bf16: bool = False,
        **prediction: Unpack[PredictionSettings],
    ) -> "Segmenter":
        """``from_pretrained`` of a file that ``mshnet-train`` wrote."""
        return cls.from_pretrained(Path(path), device, batch_size, bf16, **prediction)

    def save_pretrained(self, folder: str | os.PathLike[str], overwrite: bool = False, half: bool = False) -> None:
        """Write the network as ``model.safetensors``, ``config.json`` and a model card, without what was fitted.

        Args:
            folder: made where it is not there.
            overwrite: replace files that are there.
            half: write float16 weights.

        Raises:
            ConfigError: such files are there and ``overwrite`` is not set; or it was made of a method alone.
        """
        if self.source is None:
            raise ConfigError("save_pretrained: made of a method alone, whose settings are unknown; take from_pretrained")
        trained = self.source.trained._replace(prediction=self.settings)
        pretrained.save(given_place(folder, "folder"), self.source._replace(trained=trained), overwrite, half)

    def fresh(self) -> "Segmenter":
        """One that shares the network and the settings, with nothing fitted."""
        return Segmenter(
            self.method, self.image_size, self._device, self._batch_size, self._bf16, source=self.source, **self.settings
        )

    @property
    def settings(self) -> dict[str, Any]:
        """``PredictionSettings`` as plain values."""
        return self._predictor.settings

    @property
    def classes(self) -> tuple[str, ...]:
        """The fitted classes without negative ones; in label maps they have the numbers 1 to N."""
        return tuple(name for name in self._codes if name not in self._negatives)

    @overload
    def fit(self, images: ImagesLike, masks: ImagesLike, **options: Unpack[MaskOptions]) -> "Segmenter": ...
    @overload
    def fit(self, images: ImagesLike, **marks: Unpack[MarkOptions]) -> "Segmenter": ...
    @overload
    def fit(self, name: str, images: ImagesLike, masks: ImagesLike, **options: Unpack[MaskOptions]) -> "Segmenter": ...
    @overload
    def fit(self, name: str, images: ImagesLike, **marks: Unpack[MarkOptions]) -> "Segmenter": ...
    @torch.inference_mode()
    def fit(
        self, *support: Any, value: int | None = None, negative: bool = False, titles: Titles = None, **named: Any
    ) -> "Segmenter":
        """Learn a class from K images with a mask or marks each; a class of that name is replaced.

        ``fit(images, masks)``, ``fit(images, boxes=...)``, or with the class's name first where there are several.

        Args:
            *support: the class's name (``object`` if left out), its images, and their masks in the same order; a mask's
                object is what ``data.io.masks`` says.
            value: the object's value in masks that are label maps.
            negative: this is what the other classes are not: what looks more like it is background.
            titles: what messages call the masks; their paths, or their places, where left out.
            **named: the same by name; in place of ``masks`` ``boxes``, ``points``, ``scribbles``: see ``MarkOptions``.

        Raises:
            TypeError: other arguments than these.
            ConfigError: ``value`` for marks.
            DataError: what is no image; not as many masks or marks as images, or none; a file that cannot be read; a mask of
                another size than its image, or without an object; marks of another shape or type.
        """
        name, pictures, masks, marks = arguments(support, named)
        if marks is not None:
            pictures, drawn = marks_of(name, pictures, marks, value)
            masks = self.complete(pictures, drawn)
        others = self.bits if {*self._codes} - {name} else 8
        images, small, bits = read_shots(name, pictures, masks, value, self.image_size, others, titles)
        with self._precision():
            codes = self._predictor.encode(self._inputs(images)[None], small[None].to(self._device, torch.float32))
        self._negatives = self._negatives | {name} if negative else self._negatives - {name}
        self._codes, self.bits = {**self._codes, name: codes}, bits
        return self

    @torch.inference_mode()
    def complete(self, images: Sequence[ImageLike], marks: Sequence[Marks]) -> list[Bool[np.ndarray, "_ _"]]:
        """The masks that ``fit`` makes of a class's marks, at the images' own sizes; see ``inference.completion``."""
        pictures, told = [read_image(image, bits=self.bits) for image in images], [one.told() for one in marks]
        with self._precision():
            small = torch.stack([resize_mask(one, self.image_size) for one in told])
            made = self._predictor.completed(self._inputs(pictures), small[None])[0]
        return [at_size(*one) for one in zip(made, told, strict=True)]

    @overload
    def predict(self, images: ImageLike, threshold: float = 0.5, tile: int | None = None) -> Labels: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: Iterable[ImageLike], threshold: float = 0.5, tile: int | None = None) -> list[Labels]: ...
    def predict(self, images: ImagesLike, threshold: float = 0.5, tile: int | None = None) -> Labels | list[Labels]:
        """An image's mask, at its own size: 0 for background, and 1 to N for the class that wins by most.

        Args:
            images: one or several.
            threshold: what an object's foreground probability must exceed.
            tile: segment images that are larger by overlapping tiles of that many pixels, see ``margins``.

        Returns:
            uint8 (uint16 for more than 255 classes); for several images a list.

        Raises:
            ConfigError: nothing was fitted, or an impossible threshold or tile.
            DataError: an image that cannot be read, or is of another type.
        """
        self.check_threshold(threshold)
        found = [to_labels(wins, threshold) for wins in self.margins(images, tile)]
        return found[0] if is_one(images) else found

    def check_threshold(self, threshold: float) -> None:
        """Refuse what is no threshold of these predictions.

        Raises:
            ConfigError: no probability, or another than 0.5 where a vote gives none.
        """
        min_margin(threshold)
        if self.settings["fusion"] == Fusion.vote and not self.settings["guided"] and threshold != 0.5:
            raise ConfigError(f"threshold={threshold}: after fusion=vote half of the votes decide; give 0.5, or fusion=mean")

    @overload
    def predict_proba(self, images: ImageLike, tile: int | None = None) -> Probabilities: ...  # type: ignore[overload-overlap]
    @overload
    def predict_proba(self, images: Iterable[ImageLike], tile: int | None = None) -> list[Probabilities]: ...
    def predict_proba(self, images: ImagesLike, tile: int | None = None) -> Probabilities | list[Probabilities]:
        """An image's probabilities, at its own size: the foreground's where one class is fitted, as (H, W).

        Of N classes (N + 1, H, W), background first: the softmax of 0 and the classes' margins. Arguments and errors are
        those of ``predict``.

        Returns:
            float32; for several images a list.
        """
        found = [to_probabilities(wins) for wins in self.margins(images, tile)]
        return found[0] if is_one(images) else found

    def margins(self, images: ImagesLike, tile: int | None = None) -> Iterator[Float[Tensor, "way height width"]]:
        """By how much each class's foreground logit exceeds its background logit, image after image, at its own size.

        With ``tile``, a larger image is cut into squares of that many pixels (its side, where that is shorter) that overlap
        by half or more; a margin is then the mean of its squares', weighted by a sine window. Errors as ``predict``.
        """
        if not (wanted := self.classes):
            raise ConfigError("nothing is fitted; call fit(images, masks) first")
        codes = [self._codes[name] for name in (*wanted, *sorted(self._negatives))]
        check_tile(tile)
        pictures = (read_image(picture, f"image {i}", bits=self.bits) for i, picture in enumerate(as_iterable(images)))
        return (without_negatives(found, len(wanted)) for found in self._margins(pictures, tile, codes))

    def _margins(
        self, pictures: Iterable[Image.Image], tile: int | None, codes: Sequence[SupportCodes]
    ) -> Iterator[Float[Tensor, "way height width"]]:
        for batch in batches(pictures, self._batch_size):
            cuts = [boxes(picture.size, tile) for picture in batch]
            crops = (picture.crop(box) for picture, cut in zip(batch, cuts, strict=True) for box in cut)
            logits = (of_crop for part in batches(crops, self._batch_size) for of_crop in self._logits(part, codes))
            for picture, cut in zip(batch, cuts, strict=True):
                yield blend([*islice(logits, len(cut))], cut, (picture.height, picture.width))

    @torch.inference_mode()
    def _logits(self, pictures: Sequence[Image.Image], codes: Sequence[SupportCodes]) -> Float[Tensor, "batch way 2 h w"]:
        with self._precision():
            return torch.stack(self._predictor.decode(self._inputs(pictures), codes), dim=1)

    def _inputs(self, pictures: Sequence[Image.Image]) -> Float[Tensor, "batch 3 side side"]:
        return torch.stack([to_input(picture, self.image_size) for picture in pictures]).to(self._device)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16)

    @torch.inference_mode()
    def energy(self, image: ImageLike, name: str | None = None) -> dict[str, dict[int, Float[np.ndarray, "height width"]]]:
        """Mean similarity to a class's supports over layers and shots, by similarity and block, at the image's own size.

        Args:
            image: one; where several views are averaged in predictions, its first view.
            name: the class; may be left out where only one is fitted.

        Raises:
            ConfigError: no such class, or a method without similarities.
            DataError: the image cannot be read.
        """
        codes, picture = self._codes[fitted_name(name, self._codes)], read_image(image, bits=self.bits)
        with self._precision():
            return mean_maps(self.method, self._predictor.features(self._inputs([picture])), codes, picture.size[::-1])

    def save_support(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write what was fitted to a safetensors file, for ``load_support`` with the same network.

        Raises:
            ConfigError: nothing was fitted, or the file is there and ``overwrite`` is not set.
        """
        support_file.save(given_place(path, "path"), self._codes, self._negatives, self._fingerprint(), self.bits, overwrite)

    def load_support(self, path: str | os.PathLike[str]) -> "Segmenter":
        """Take over what ``save_support`` wrote, as ``fit`` would: a class of the same name is replaced.

        Raises:
            DataError: the file cannot be read, or was written with another network or settings (only ``guided``, which
                concerns no support, may differ); says which.
        """
        new, negatives, bits = support_file.load(given_place(path, "path"), self._fingerprint(), self._device, self._logits)
        bits = support_file.common_scale(path, bits, self.bits if {*self._codes} - {*new} else 8)
        self._negatives = self._negatives - {*new} | negatives
        self._codes, self.bits = {**self._codes, **new}, bits
        return self

    def _fingerprint(self) -> str:
        return support_file.fingerprint(self.method, self.image_size, self._bf16, self.settings)
