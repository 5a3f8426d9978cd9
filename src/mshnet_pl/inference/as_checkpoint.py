"""Any network, by name, in the form of a checkpoint: what the commands read that test one as ``mshnet-train`` would."""

from collections.abc import Mapping
from typing import Any

from mshnet_pl.inference import lineage, pretrained
from mshnet_pl.models.builder import PREFIX, Trained
from mshnet_pl.options import EVERY_FOLD
from mshnet_pl.results import Training
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from mshnet_pl.utils.places import expanded

_NO_TRAINING = {
    "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.01},
    "scheduler": {"_target_": "mshnet_pl.training.constant", "_partial_": True},
}
"""What a run asks for that only training uses."""


def read(name: str) -> Mapping[str, Any]:
    """A checkpoint's content; of another network ``state_dict`` and ``hyper_parameters`` alike.

    Its settings are those of the network and of prediction; the data are the command's to name, of which it tests every
    class unless told otherwise.

    Raises:
        ConfigError: as ``pretrained.load``.
    """
    if pretrained.finder(name) is None:
        return read_checkpoint(expanded(name))
    network = pretrained.load(name)
    learned_from, method = network.describe(), network.trained.method
    told = learned_from.trainings or [vars(Training(learned_from.data, None, None, tuned=False))]
    return {
        "state_dict": {f"{PREFIX}{key}": value for key, value in method.state_dict().items()},
        "hyper_parameters": {
            "config": _settings(network.trained),
            lineage.KEY: told if method.learnable_parameters() else [],
        },
    }


def _settings(trained: Trained) -> dict[str, Any]:
    return {
        "fold": EVERY_FOLD,
        "data": {"image_size": trained.image_size},
        "backbone": trained.network["backbone"],
        "similarity": trained.network.get("similarities"),
        "model": trained.network,
        "eval": dict(trained.prediction),
        **_NO_TRAINING,
    }
