"""How predictions are made and scored when a network is tested."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

LEAST_SIDE = 32


class Resolution(StrEnum):
    """At which size a prediction is scored."""

    resized = "resized"
    original = "original"


class Fusion(StrEnum):
    """How K supports become one prediction."""

    network = "network"
    """As the method itself does it."""
    mean = "mean"
    """Each shot predicts alone; the mean of their logits."""
    vote = "vote"
    """Each shot predicts alone; their foreground votes, divided by the most that a pixel got, decide (HSNet)."""


@dataclass
class EvalConfig:
    """How tests predict and score; validation predicts plainly."""

    resolution: Resolution = Resolution.resized
    flip: bool = False
    scales: list[float] = field(default_factory=lambda: [1.0])
    fusion: Fusion = Fusion.network
    guided: float = 0.0
    """Radius of the guided filter's windows as a share of the image's side; 0 for no filter."""


def eval_problems(config: EvalConfig, image_size: int) -> list[str]:
    """What cannot work."""
    if not config.scales:
        return ["eval.scales=[]: give at least one, 1.0 for the images' own size"]
    least = LEAST_SIDE / image_size
    problems = guided_problems("eval.guided", config.guided, image_size)
    return problems + [
        f"eval.scales={scale}: give numbers of at least {least:.2f}, for images of {LEAST_SIDE} pixels or more"
        for scale in config.scales
        if not math.isfinite(scale) or round(scale * image_size) < LEAST_SIDE
    ]


def guided_problems(name: str, radius: float, image_size: int) -> list[str]:
    """What cannot work about a guided filter's ``radius``, a share of the images' side."""
    if radius == 0 or (radius <= 0.5 and round(radius * image_size) >= 1):
        return []
    least = math.ceil(500 / image_size) / 1000
    return [f"{name}={radius}: give 0 for no filter, or its radius as a share of the side, {least} to 0.5"]
