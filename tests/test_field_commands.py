"""Every method through the commands, and the recipes and experiments of the field's."""

import json
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image

from conftest import ROOT, Command
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.runs.build import make_method
from tiny import TINY_RUN

DRAWN = Synthetic(size=50)
RECIPES = ("asgnet", "cyctr", "fwb", "hsnet", "panet", "pfenet", "ppnet", "rpmm")
MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


@pytest.mark.one_in(8)
@pytest.mark.parametrize("model", MODELS)
def test_every_method_trains_tests_reports_exports_and_predicts(command: Command, tmp_path: Path, model: str) -> None:
    settings = [*TINY_RUN, f"model={model}", "data.image_size=48", "test.episodes=3", "test.shots=[1,2]"]
    settings += [f"recipe={model}", "val.episodes=0", "test.checkpoint=last"] if model in RECIPES else []
    settings += ["model.width=8"] if model in ("asgnet", "cyctr", "mshnet", "mshnet_lite", "pfenet", "rpmm") else []
    done = command("mshnet-train", *settings)
    assert done.code == 0, done.err
    (path,) = (tmp_path / "runs").rglob("result.json")
    result = json.loads(path.read_text())
    learns = result["learnable_parameters"] > 0
    assert result["training"]["steps"] == (2 if learns else 0) and [t["shot"] for t in result["tests"]] == [1, 2]
    assert learns != (model.endswith("_baseline") or model == "density_ratio")
    again = command("mshnet-train", *settings)
    assert again.code == 0 and "already done" in again.err
    report = command("mshnet-report", tmp_path / "runs")
    name = {"mshnet": "MSHNet cosine", "mshnet_lite": "MSHNet-lite cosine", "prototype_baseline": "PrototypeBaseline"}
    assert report.code == 0 and name.get(model, result["config"]["model"]["_target_"].rpartition(".")[2]) in report.out
    if not learns:
        return
    (ckpt,) = path.parent.rglob("last.ckpt")
    tested = command("mshnet-test", f"ckpt={ckpt}", "runs=elsewhere")
    assert tested.code == 0, tested.err
    (other,) = (tmp_path / "elsewhere").rglob("result.json")
    assert json.loads(other.read_text())["tests"][0]["intersection"] == result["tests"][0]["intersection"]
    exported = command("mshnet-export", f"ckpt={ckpt}", "format=torch_export", "out=network.pt2", "image_size=64", "shots=1")
    shaped_by_masks = model in ("asgnet", "cyctr", "fwb", "ppnet")
    assert exported.code == (2 if shaped_by_masks else 0), exported.err
    assert not shaped_by_masks or "a graph of another shape for every mask" in exported.err
    for folder, number in (("images", 0), ("query", 1)):
        (tmp_path / folder).mkdir()
        DRAWN.image(f"val-00-000{number}").save(tmp_path / folder / "0.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(DRAWN.mask("val-00-0000", [0])).save(tmp_path / "masks" / "0.png")
    predicted = command("mshnet-predict", f"ckpt={ckpt}", f"support={tmp_path}", "query=query", "out=predicted")
    assert predicted.code == 0, predicted.err
    with Image.open(tmp_path / "predicted" / "0_mask.png") as mask:
        assert mask.size == (50, 50)


def test_a_sweep_over_methods(command: Command, tmp_path: Path) -> None:
    models = "asgnet,cyctr,fwb,panet,ppnet,prototype_baseline,rpmm"
    settings = (*TINY_RUN, "data.image_size=48", "trainer.max_steps=1")
    done = command("mshnet-train", "-m", f"model={models}", "recipe=equal_ground", *settings)
    assert done.code == 0, done.err
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("result.json")]
    assert len(results) == 7 and len({r["tests"][0]["episodes_sha256"] for r in results}) == 1
    assert len({r["config"]["model"]["_target_"] for r in results}) == len(results)


@pytest.mark.parametrize("model", [*RECIPES, "mshnet_lite"])
@pytest.mark.parametrize("own", [False, True])
def test_recipes_compose(command: Command, model: str, own: bool) -> None:
    recipe = (model if model in RECIPES else "paper") if own else "equal_ground"
    done = command("mshnet-train", "data=pascal5i", "data.root=/x", f"model={model}", f"recipe={recipe}", "--cfg", "job")
    assert done.code == 0, done.err
    job = yaml.safe_load(done.out)
    learns = ("fwb", "panet", "ppnet", "rpmm") if own else ("panet", "ppnet")
    assert job["backbone"]["trainable"] == (model in learns)
    assert job["loss"]["grid"] == ("logits" if recipe == "paper" else "image")
    if not own:
        assert job["trainer"]["max_steps"] == 800 and job["scheduler"]["_target_"].endswith("polynomial")


@pytest.mark.parametrize("model", RECIPES)
def test_experiments_have_the_published_networks(command: Command, model: str) -> None:
    done = command(
        "mshnet-train", f"experiment={model}", "data.root=/x", "fold=0", "backbone.weights=random", "--cfg", "job"
    )
    assert done.code == 0, done.err
    job = OmegaConf.create(done.out)
    method = make_method(job)
    published = {"hsnet": 2_573_794, "panet": 14_714_688, "pfenet": 10_817_034, "rpmm": 19_602_370, "asgnet": 10_423_818,
                 "cyctr": 7_456_692, "fwb": 42_795_458, "ppnet": 23_242_816}  # fmt: skip
    more_classes = 5 * 4 * (2048 * 9 + 1) if model == "ppnet" else 0  # the published network names the trained ones alone
    assert method.learnable_parameters() == published[model] + more_classes
