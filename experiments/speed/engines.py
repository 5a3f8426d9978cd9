"""What ONNX Runtime and OpenVINO make of a trained MSHNet: processor time of an episode, agreement with float32, mIoU.

    python experiments/speed/engines.py CHECKPOINT FOLDER EPISODES FORMS SETTING=VALUE ...

Test episodes, 1-shot, by every form in turn on one thread: ``FORMS`` is "all" or names of ``forms`` with commas between
them, "torch bf16" among them; labels are compared with the first one's. Networks are written to FOLDER where it lacks them,
those in int8 after calibration on training episodes; "parts" are backbone and head in OpenVINO with the package's
similarities between them. The settings are those of mshnet-train that choose the data. Needs openvino, nncf and onnxruntime.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from engine_networks import Form, Networks, compiled, flat, onnx_form
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))
from opened import opened

from mshnet_pl.evaluation.metrics import EpisodeIoU
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.report.bootstrap import Scored, estimate, fold_spread
from mshnet_pl.report.counts import MIOU, episode_counts
from mshnet_pl.report.episode_images import EpisodeImages
from mshnet_pl.report.formats import aligned

YARDSTICK = "torch bf16"
CALIBRATION = 16  # training episodes


def forms(method: MSHNet, file: Networks, batch: int) -> dict[str, Callable[[], Form]]:
    """By name, made when they are called."""

    def of_torch(bf16: bool) -> Form:
        def predict(*inputs: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return method(*inputs).logits

        return predict

    def whole(name: str, precision: str) -> Form:
        network = compiled(file(name), precision, batch)
        return lambda *inputs: network(*inputs)[0]

    def parts(suffix: str) -> Form:
        backbone, head = compiled(file(f"backbone{suffix}.xml")), compiled(file(f"head{suffix}.xml"))

        def blocks(image: Tensor) -> list[Tensor]:
            maps = (x.bfloat16() for x in backbone(image))
            blocks = [torch.stack([next(maps) for _ in range(spec.layers)], dim=1) for spec in method.backbone.blocks]
            return [block.permute(0, 1, 4, 2, 3) for block in blocks]

        def one(query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
            of_support, of_query = (blocks(image) for image in (support[:, 0], query))
            with torch.autocast("cpu", torch.bfloat16):
                code = method.encode(tuple(block[:, None] for block in of_support), mask)
                maps = flat(method.compare(tuple(of_query), code))
            return head(*maps)[0]

        return lambda *inputs: torch.cat([one(*episode) for episode in zip(*(x.split(1) for x in inputs), strict=True)])

    return {
        "torch fp32": lambda: of_torch(bf16=False),
        YARDSTICK: lambda: of_torch(bf16=True),
        "ONNX Runtime fp32": lambda: onnx_form(file("whole.onnx")),
        "OpenVINO fp32": lambda: whole("whole.onnx", "f32"),
        "OpenVINO bf16": lambda: whole("whole.onnx", "bf16"),
        "OpenVINO int8": lambda: whole("whole_int8.xml", "f32"),  # bf16 beside int8: no such reorder in OpenVINO 2026.4.1
        "OpenVINO parts bf16": lambda: parts(""),
        "OpenVINO parts int8": lambda: parts("_int8"),
    }


def interval(scored: Scored, sign: str = "") -> str:
    """MIoU, or the difference, with the interval over images."""
    value, low, high = estimate(scored.value(MIOU), [fold_spread([[scored]], MIOU)])
    return f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


@torch.no_grad()
def main(checkpoint: Path, folder: Path, episodes: int, wanted: str, overrides: Sequence[str]) -> None:
    """Predict every episode with every form."""
    _, typed, data, method = opened(checkpoint, "threads=1", *overrides)
    assert isinstance(method, MSHNet)
    method.eval().requires_grad_(False)
    draws = data.draws(episodes, 1, typed.test.seeds[0], typed.test.protocol)
    data.use_test_episodes(draws)
    base = [data.training_batch([number])[:3] for number in range(CALIBRATION)]
    made = forms(method, Networks(folder, checkpoint, method, base), typed.data.batch_size)
    chosen = {name: made[name]() for name in (made if wanted == "all" else wanted.split(","))}
    first = next(iter(chosen))
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    metrics = {name: EpisodeIoU() for name in chosen}
    alike = {name: np.zeros(2, int) for name in chosen}
    for number, episode in enumerate(data.test_dataloader(), 1):
        labels: dict[str, Tensor] = {}
        for name, form in chosen.items():
            started = time.process_time()
            logits = form(*episode[:3])
            seconds[name].append((time.process_time() - started) / len(logits))
            labels[name] = predict_labels(logits, episode)
            metrics[name].update(labels[name], episode.query_mask, episode.class_id, episode.number)
            alike[name] += int((labels[name] == labels[first]).sum()), labels[first].numel()
        if number % 10 and len(episode.query) * number < episodes:
            continue
        rows = [draw for drawn in draws[: len(episode.query) * number] for draw in drawn]
        query, supports, class_id = zip(*((draw.query, draw.supports, draw.class_id) for draw in rows), strict=True)
        images = EpisodeImages(query, supports, class_id, way=1)
        counts = {name: episode_counts(metric.counts().numpy()) for name, metric in metrics.items()}
        classes = tuple(data.class_names[c] for c in counts[first].classes)
        table = [["", "least ms", "median ms", "bf16's / its", "alike", "mIoU", "less bf16's"], ["---", *["---:"] * 6]]
        for name, taken in seconds.items():
            times = *(f"{1000 * of(taken):.0f}" for of in (min, median)), f"{min(seconds[YARDSTICK]) / min(taken):.2f}"
            scored = Scored(images, classes, counts[name]), Scored(images, classes, counts[name], counts[YARDSTICK])
            less = "" if name == YARDSTICK else interval(scored[1], "+")
            table.append([name, *times, f"{100 * alike[name][0] / alike[name][1]:.2f}%", interval(scored[0]), less])
        print(f"{len(rows)} episodes, {len(images.queries)} query images\n\n{aligned(table)}\n", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
