"""One case, measured in a process of its own: ``python -m mshnet_pl.bench.measure`` reads it as JSON and prints JSON.

Cost travels between machines in R50 units: the time of one image through torchvision's plain ResNet-50 (eval mode, float32,
contiguous, 473 x 473, batch 2, no graph). It is taken in turn with what is measured, so that both see the same machine.
"""

import json
import logging
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from mshnet_pl.config import register
from mshnet_pl.config.bench_schema import BenchConfig
from mshnet_pl.models.base import AbstractMethod, SimilarityMethod
from mshnet_pl.training.losses import episode_loss
from mshnet_pl.utils import devices
from mshnet_pl.utils.memory import keep_freed_memory

_UNIT_SIZE, _UNIT_BATCH = 473, 2
EpisodeTensors = tuple[Tensor, Tensor, Tensor]
Step = Callable[[], object]


def measure(raw: DictConfig, case: Mapping[str, Any]) -> dict[str, Any]:
    """Times in seconds, or the peak of memory.

    Args:
        raw: the configuration of the network, the optimizer and, for a whole test, the data.
        case: ``what``, ``size``, ``shots``, ``precision``, ``compile``, ``batch``, ``repeats`` and ``memory``: whether the
            peak of memory is wanted instead of times, which a second network would raise.
    """
    register()
    keep_freed_memory()
    if case["what"] == "test":
        return _whole_test(raw, case)
    device = torch.device(devices.chosen(raw.trainer.accelerator))
    torch.manual_seed(0)
    method: AbstractMethod = instantiate(raw.model, _convert_="all").to(device)
    inputs = _episodes(case["batch"], case["shots"], case["size"], device)
    steps = {case["what"]: _step(raw, method, inputs, case, device)}
    if case["memory"]:
        for _ in range(2):
            steps[case["what"]]()
        return {"peak_mib": _peak(device)}
    gmac = _gmac(steps[case["what"]]) / case["batch"]
    if case["what"] == "forward":
        steps |= _parts(method, inputs, case, device)
    return {"gmac": gmac, "seconds": _times({"unit": _unit(device), **steps}, case["repeats"], device)}


def _episodes(batch: int, shots: int, size: int, device: torch.device) -> EpisodeTensors:
    """Noise, with a square of a quarter of the picture as mask."""
    mask = torch.zeros(batch, shots, size, size, device=device)
    mask[..., size // 4 : size * 3 // 4, size // 4 : size * 3 // 4] = 1
    images = torch.randn(batch, shots + 1, 3, size, size, device=device)
    return images[:, 0].contiguous(), images[:, 1:].contiguous(), mask


def _step(
    raw: DictConfig, method: AbstractMethod, inputs: EpisodeTensors, case: Mapping[str, Any], device: torch.device
) -> Step:
    if case["compile"]:
        method.backbone.maps = torch.compile(method.backbone.maps)  # type: ignore[method-assign]
        if isinstance(method, SimilarityMethod):
            method.segment = torch.compile(method.segment)  # type: ignore[method-assign]
    if case["what"] == "forward":
        method.eval()
        return _without_graph(lambda: method(*inputs), case, device)
    truth = (torch.rand(case["batch"], case["size"], case["size"], device=device) > 0.5).to(torch.uint8)
    optimizer = instantiate(raw.optimizer)([p for p in method.parameters() if p.requires_grad])
    method.train()

    def train() -> None:
        with _precision(case, device):
            loss, _ = episode_loss(method(*inputs), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return train


def _without_graph(work: Step, case: Mapping[str, Any], device: torch.device) -> Step:
    def step() -> object:
        with torch.no_grad(), _precision(case, device):
            return work()

    return step


def _parts(method: AbstractMethod, inputs: EpisodeTensors, case: Mapping[str, Any], device: torch.device) -> dict[str, Step]:
    """What a forward pass consists of, each part on inputs that are there already."""
    query, support, mask = inputs

    with torch.no_grad(), _precision(case, device):
        of_query, of_support = method.features(query, support)
        code = method.encode(of_support, mask)
        parts: dict[str, Step] = {"backbone": lambda: method.features(query, support)}
        if isinstance(method, SimilarityMethod):
            maps, grid = method.compare(of_query, code), of_query[0].shape[3:]
            parts["similarities"] = lambda: method.compare(of_query, method.encode(of_support, mask))
            parts["head"] = lambda: method.segment(maps, grid)
        else:
            parts["encode"] = lambda: method.encode(of_support, mask)
            parts["decode"] = lambda: method.decode(of_query, code)
    return {name: _without_graph(part, case, device) for name, part in parts.items()}


def _unit(device: torch.device) -> Step:
    net = torchvision.models.resnet50(weights=None).eval().to(device)
    images = torch.randn(_UNIT_BATCH, 3, _UNIT_SIZE, _UNIT_SIZE, device=device)

    def unit() -> None:
        with torch.no_grad():
            net(images)

    return unit


def _times(steps: Mapping[str, Step], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every step, round after round, after two rounds of warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 2):
        for name, step in steps.items():
            _synchronise(device)
            started = time.perf_counter()
            step()
            _synchronise(device)
            seconds[name].append(time.perf_counter() - started)
    seconds["unit"] = [taken / _UNIT_BATCH for taken in seconds["unit"]]
    return {name: taken[2:] for name, taken in seconds.items()}


def _gmac(step: Step) -> float:
    counter = FlopCounterMode(display=False, custom_mapping=_fused_convolutions())
    with counter:
        step()
    return counter.get_total_flops() / 2e9


def _fused_convolutions() -> dict[Any, Callable[..., int]]:
    """What PyTorch does not count: the products of the convolutions of ``backbones.fused_conv_bn``."""
    if not torch.backends.mkldnn.is_available():
        return {}

    def alone(x: Sequence[int], weight: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
        return conv_flop_count([*x], [*weight], [*out_shape])

    def added(_: object, *given: Any, **others: Any) -> int:  # noqa: ANN401 - as above
        return alone(*given, **others)

    return {torch.ops.mkldnn._convolution_pointwise: alone, torch.ops.mkldnn._convolution_pointwise_: added}


def _precision(case: Mapping[str, Any], device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=case["precision"] == "bf16-mixed")


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _peak(device: torch.device) -> float:
    """MiB: of the device's memory, or of this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # the other measure starts from the parent's
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _whole_test(raw: DictConfig, case: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds an episode of a test of the untrained network, reading images included."""
    from mshnet_pl.runs.job import Run
    from mshnet_pl.runs.run import train  # only here: Lightning's memory is not the network's

    changes = {"data": {"image_size": case["size"]}, "shot": case["shots"], "logger": None}
    changes["test"] = {"shots": None, "pictures": 0, "seeds": [0], "untrained": False}
    changes["trainer"] = {"max_steps": 0, "precision": case["precision"], "enable_progress_bar": False}
    merged = OmegaConf.merge(raw, changes)
    assert isinstance(merged, DictConfig)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.of(merged, Path(folder))
        result = train(run)
    if case["memory"]:
        return {"peak_mib": _peak(torch.device("cpu"))}
    unit = _times({"unit": _unit(torch.device("cpu"))}, case["repeats"], torch.device("cpu"))["unit"]
    return {
        "gmac": None,
        "seconds": {"unit": unit, "test": [result.tests[-1].seconds / run.config.test.episodes * case["batch"]]},
    }


def summary(times: Mapping[str, list[float]], batch: int) -> dict[str, Any]:
    """Medians an episode in ms, half the distance of the quartiles, R50 units and episodes a second."""
    what = next(name for name in times if name != "unit")
    unit, median = statistics.median(times["unit"]), statistics.median(times[what]) / batch
    quartiles = statistics.quantiles(times[what]) if len(times[what]) > 1 else [0.0, 0.0, 0.0]
    parts = {name: statistics.median(t) / batch / unit for name, t in times.items() if name not in ("unit", what)}
    return {
        "unit_ms": 1000 * unit,
        "ms": 1000 * median,
        "spread_ms": 500 * (quartiles[2] - quartiles[0]) / batch,
        "units": median / unit,
        "episodes_per_second": 1 / median,
        "parts_units": parts,
        "whole_over_parts": median / unit / sum(parts.values()) if parts else None,
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    given = json.load(sys.stdin)
    configuration = OmegaConf.merge(OmegaConf.structured(BenchConfig), given["config"])
    assert isinstance(configuration, DictConfig)
    print(json.dumps(measure(configuration, given["case"])))
