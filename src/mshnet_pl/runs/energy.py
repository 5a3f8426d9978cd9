"""``mshnet-report energy``: the energy maps of a checkpoint's similarities (section 6.1 of the paper)."""

from collections import defaultdict
from pathlib import Path

import torch
from tqdm import tqdm

from mshnet_pl.config.schema import EnergyConfig
from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError
from mshnet_pl.evaluation.energy import EnergyPicture, energy_pictures
from mshnet_pl.inference import pretrained
from mshnet_pl.models.base import SimilarityMethod
from mshnet_pl.options import Resolution
from mshnet_pl.report import energy_plots
from mshnet_pl.runs import build
from mshnet_pl.runs.job import Run
from mshnet_pl.utils import devices
from mshnet_pl.utils.files import whole_file


def make(run: Run) -> str:
    """Draw the energy maps of some test episodes, and measure over many how well energy tells object from background.

    Args:
        run: the checkpoint's configuration with the command line's changes; ``ckpt`` names the file. Episodes are those of
            the first test seed, with ``shot`` supports.

    Returns:
        Areas under the ROC curve as a Markdown table, and where the figure is.

    Raises:
        UserError: what the user can mend; nothing was computed then.
    """
    raw, config = run.raw, run.config
    assert isinstance(config, EnergyConfig) and config.ckpt is not None
    out = Path(config.out)
    if out.exists() and not config.overwrite:
        raise ConfigError(f"out={out} exists; give another name, or overwrite=true")
    network = pretrained.load(config.ckpt).trained.method
    if not isinstance(network, SimilarityMethod):
        raise ConfigError(f"ckpt={config.ckpt} holds {type(network).__name__}, which has no similarities; give an MSHNet")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    datamodule = build.make_datamodule(run)
    numbers = sorted({*config.episodes, *range(config.average)})
    draws = datamodule.draws(numbers[-1] + 1, config.shot, config.test.seeds[0], config.test.protocol)
    original_size = config.eval.resolution is Resolution.original
    datamodule.use_test_episodes([draws[number] for number in numbers], original_size)
    network.to(devices.chosen(raw.trainer.accelerator))
    device = next(network.parameters()).device
    drawn: list[EnergyPicture] = []
    areas: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for batch in tqdm(datamodule.test_dataloader(), "energy", disable=not raw.trainer.enable_progress_bar):
        places = [numbers[i] for i in batch.number.tolist()]
        classes = [datamodule.class_names[c] for c in batch.class_id.tolist()]
        titles = [f"episode {number}: {name}" for number, name in zip(places, classes, strict=True)]
        rows = energy_pictures(network, Episode(*(part.to(device) for part in batch)), titles)
        for number, class_name, row in zip(places, classes, rows, strict=True):
            drawn += [row] if number in config.episodes else []
            for name, by_block in row.separation.items():
                for block, area in by_block.items():
                    areas[class_name][name][block] += [area] if number < config.average else []
    with whole_file(out) as file:
        energy_plots.draw(drawn, config.pictures).savefig(file, format=out.suffix[1:], dpi=120)
    means = {
        c: {
            name: {block: energy_plots.mean(found) for block, found in by_block.items()}
            for name, by_block in areas[c].items()
        }
        for c in datamodule.class_names
        if c in areas
    }
    what = "means over the episodes of a class and over classes; 50 is chance"
    heading = f"Area under the ROC curve in percent, {config.shot}-shot, {config.average} episodes, {what}"
    return f"{heading}\n\n{energy_plots.table(means)}\n\nenergy maps: {out}"
