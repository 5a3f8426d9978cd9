"""What a trained MSHNet scores when the maps of a similarity, in one block or in all, say nothing about where the object is.

    python experiments/knockout.py CHECKPOINT EPISODES fold=F SETTING=VALUE ...

A map that is knocked out has its own mean everywhere. Test episodes of the first seed; the settings are those of
mshnet-train that choose the data.
"""

import sys
from itertools import product
from pathlib import Path

from opened import opened, predicting

from mshnet_pl.evaluation.metrics import EpisodeIoU, scores
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.models.base import SimilarityMethod
from mshnet_pl.report.formats import aligned


def main(checkpoint: Path, episodes: int, overrides: list[str]) -> None:
    """Compare once an episode, and segment once a knock-out."""
    _, typed, data, method = opened(checkpoint, *overrides)
    assert isinstance(method, SimilarityMethod)
    data.use_test_episodes(data.draws(episodes, typed.shot, typed.test.seeds[0], typed.test.protocol))
    choices = [(block,) for block in method.blocks] + [method.blocks]
    knocked = [("none", ()), *product(method.similarities, choices)]
    metrics: dict[tuple[str, tuple[int, ...]], EpisodeIoU] = {key: EpisodeIoU() for key in knocked}
    with predicting(typed):
        for episode in data.test_dataloader():
            of_query, of_support = method.features(episode.query, episode.support)
            maps = method.compare(of_query, method.encode(of_support, episode.support_mask))
            for (similarity, blocks), metric in metrics.items():
                seen = {
                    block: {
                        name: m.mean((-2, -1), keepdim=True).expand_as(m) if name == similarity and block in blocks else m
                        for name, m in by_name.items()
                    }
                    for block, by_name in maps.items()
                }
                labels = predict_labels(method.segment(seen, of_query[0].shape[3:]).logits, episode)
                metric.update(labels, episode.query_mask, episode.class_id, episode.number)
    found = {key: scores(metric.counts()) for key, metric in metrics.items()}
    names = [data.class_names[c] for c in found["none", ()].class_iou]
    lines = [["knocked out", "in block", "mIoU", "FB-IoU", *names], ["---", "---", *["---:"] * (2 + len(names))]]
    for (similarity, blocks), score in found.items():
        numbers = score.miou, score.fb_iou, *score.class_iou.values()
        lines.append([similarity, ", ".join(map(str, blocks)), *(f"{number:.1f}" for number in numbers)])
    print(aligned(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
