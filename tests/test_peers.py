"""The field's methods against the numbers of their published implementations, in float64 on drawn weights and inputs.

Every ``.npz`` below the folder of golden numbers is read; what a case holds follows from its ``meta``, not from its name.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor, nn

from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.backbones.vgg import VGG16
from mshnet_pl.episode import Prediction
from mshnet_pl.models.asgnet.model import ASGNet
from mshnet_pl.models.asgnet.superpixels import place_seeds
from mshnet_pl.models.cyctr.model import CyCTR
from mshnet_pl.models.cyctr.sampling import Sampler
from mshnet_pl.models.fwb.model import FWB
from mshnet_pl.models.hsnet.model import HSNet
from mshnet_pl.models.layers import middle_maps
from mshnet_pl.models.panet.model import PANet
from mshnet_pl.models.pfenet.model import PFENet
from mshnet_pl.models.ppnet.graph import LatentGraph
from mshnet_pl.models.ppnet.model import PPNet
from mshnet_pl.models.ppnet.parts import nearest
from mshnet_pl.models.prior import prior_mask
from mshnet_pl.models.rpmm.mixture import probabilities
from mshnet_pl.models.rpmm.model import RPMM
from mshnet_pl.options import Criterion, LossGrid
from mshnet_pl.training.losses import episode_loss
from peer_draws import PEERS, Case, cases

Meta = Mapping[str, Any]


def close(found: Tensor | np.ndarray | float, expected: np.ndarray | float, what: str, rtol: float = 1e-9) -> None:
    """Within ``rtol`` of the largest value."""
    own = found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)
    expected = np.asarray(expected)
    assert own.shape == expected.shape, f"{what}: {own.shape} instead of {expected.shape}"
    worst = np.abs(own - expected).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-300)
    assert worst < rtol or np.abs(own - expected).max(initial=0) < 1e-13, f"{what}: relative difference {worst:.1e}"


def norms_close(method: nn.Module, case: Case, array: str, names: Callable[[str], str]) -> None:
    """Gradient norms by the reference's names, for exactly the parameters that get a gradient."""
    expected = json.loads(str(case.arrays[array]))
    own = {names(n): p.grad.norm().item() for n, p in method.named_parameters() if p.grad is not None}
    assert own.keys() == expected.keys(), f"{array}: {sorted(own.keys() ^ expected.keys())[:6]}"
    largest = max(expected.values())
    for name, norm in expected.items():
        assert abs(own[name] - norm) < max(1e-9 * norm, 1e-11 * largest), f"{array} {name}: {own[name]} instead of {norm}"


def without_dropout(method: nn.Module) -> None:
    for module in method.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0


def fresh(method: nn.Module, training: bool = True) -> None:
    method.zero_grad(set_to_none=True)
    method.train(training)


def resnet(meta: Meta, **options: object) -> ResNet:
    depth = int(re.search(r"\d+", meta.get("backbone", "resnet50"))[0])  # type: ignore[index]
    return ResNet(depth, "random", **options)


def packed(case: Case, labels: Tensor) -> None:
    """Labels (B, S, S) of 0 and 1, exactly."""
    size = case.meta["size"]
    expected = np.unpackbits(case.arrays["prediction"], axis=-1, count=size)
    assert np.array_equal(labels.numpy(), expected), f"{(labels.numpy() != expected).sum()} pixels differ"


def check_hsnet(case: Case) -> None:
    meta = case.meta
    backbone = VGG16("random") if meta["backbone"] == "vgg16" else resnet(meta)
    method = HSNet(backbone)
    names = {
        **{f"squeeze.{i}.first.over_{part}": f"encoder_layer{i + 2}.0.{conv}" for i in range(3)
           for part, conv in (("query", "conv1"), ("support", "conv2"))},
        "mix432": "encoder_layer3to2", "mix43": "encoder_layer4to3", "refine": "decoder1", "head": "decoder2",
    }  # fmt: skip

    def name(own: str) -> str:
        if own.startswith("backbone."):
            return own.removeprefix("backbone.net.").replace("backbone.layers.", "features.")
        own = re.sub(r"squeeze\.(\d)\.rest\.(\d)", lambda m: f"encoder_layer{int(m[1]) + 2}.{int(m[2]) + 1}", own)
        own = next((own.replace(mine, theirs) for mine, theirs in names.items() if own.startswith(mine)), own)
        return own.replace("over_query", "conv1").replace("over_support", "conv2")

    case.fill(method, name)
    assert method.learnable_parameters() == meta["params"]
    query, support, mask, truth = case.inputs()
    method.eval()
    with torch.no_grad():
        alone = [method(query, support[:, k : k + 1], mask[:, k : k + 1]).logits for k in range(meta["shot"])]
        close(torch.stack(alone, dim=1), case.arrays["logits"], "logits")
        packed(case, method(query, support, mask).resized(query.shape[2:]).argmax(1))
    if "train_loss" not in meta:
        return
    for array, loss_name, grid in (
        ("grad_norms", "train_loss", LossGrid.image), ("grid_grad_norms", "grid_loss", LossGrid.logits)
    ):  # fmt: skip
        fresh(method)
        loss, _ = episode_loss(method(query, support, mask), truth, grid=grid)
        close(loss, meta[loss_name], loss_name)
        loss.backward()
        norms_close(method, case, array, name)


def check_panet(case: Case) -> None:
    meta = case.meta
    method = PANet(VGG16("random", trainable=True, dilated=True), block=3)
    own = [n for n, _ in method.named_parameters()]
    theirs = [*json.loads((case.folder / "keys_vgg16.json").read_text())]
    name = dict(zip(own, theirs, strict=True)).__getitem__
    assert method.learnable_parameters() == meta["params"]
    query, support, mask, truth = case.inputs()
    drawn: dict[str, Tensor] = {}
    if meta["source"] == "features":
        drawn = case.panet_features()

        def run() -> Prediction:
            code = method.encode((drawn["support_features"][:, :, None],) * 2, mask)
            return method.decode((drawn["query_features"][:, None],) * 2, code)
    else:
        case.fill(method, name)

        def run() -> Prediction:
            prediction: Prediction = method(query, support, mask)
            return prediction

    method.double().eval()
    with torch.no_grad():
        prediction = run()
        close(prediction.logits, case.arrays["logits"], "logits")
        output = prediction.resized(query.shape[2:])
        close(output[..., ::4, ::4], case.arrays["output"], "output")
        packed(case, output.argmax(1))
    fresh(method)
    for value in drawn.values():
        value.requires_grad_()
    loss, parts = episode_loss(run(), truth, ignore_unknown=True, grid=LossGrid.image)
    close(parts["final"], meta["query_loss"], "query loss")
    close(parts["alignment"], meta["align_loss"], "alignment loss")
    loss.backward()
    expected = json.loads(str(case.arrays["grad_norms"]))
    if drawn:
        for key, norm in expected.items():
            grad = drawn[key].grad
            assert grad is not None
            close(grad.norm(), norm, key)
    else:
        norms_close(method, case, "grad_norms", name)


PFENET = {
    "reduce_query": "down_query", "reduce_support": "down_supp", "join": "init_merge", "pass_on": "alpha_conv",
    "gather": "res1", "head.0.0": "cls.0", "head.2": "cls.3",
}  # fmt: skip


def pfenet_name(own: str) -> str:
    stem = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}
    if own.startswith("backbone."):
        own = own.removeprefix("backbone.net.")
        first, _, rest = own.partition(".")
        return f"layer0.{stem[first]}.{rest}" if first in stem else own
    own = re.sub(r"^enrich\.(\d)\.(\d)\.0", lambda m: f"beta_conv.{m[1]}.{2 * int(m[2])}", own)
    own = re.sub(r"^refine\.(\d)\.0", lambda m: f"res2.{2 * int(m[1])}", own)
    own = re.sub(r"^inner_heads\.(\d)\.(0\.0|2)", lambda m: f"inner_cls.{m[1]}.{0 if m[2] == '0.0' else 3}", own)
    return next((own.replace(mine, theirs, 1) for mine, theirs in PFENET.items() if own.startswith(mine)), own)


def check_pfenet(case: Case) -> None:
    meta = case.meta
    from_features = meta["source"] == "features"
    n = (meta["size"] - 1) // 8 + 1
    query, support, mask, truth = case.inputs()
    for batch_statistics in (False,) if from_features else (False, True):
        backbone = resnet(meta, deep_stem=True, dilation="whole", last_maps=True, batch_statistics=batch_statistics)
        method = PFENet(backbone, bins=meta["bins"], masked_deep=not from_features, scale=1)
        case.fill(method, pfenet_name)
        assert method.learnable_parameters() == meta["params"]
        without_dropout(method)
        if not batch_statistics:
            with torch.no_grad():
                of_query, of_support = case.pfenet_features(n) if from_features else method.eval().features(query, support)
                code = method.eval().encode(of_support, mask)
                prediction = method.decode(of_query, code)
            close(prediction.logits, case.arrays["logits"], "logits")
            loss, _ = episode_loss(prediction, truth, ignore_unknown=True, grid=LossGrid.image)
            close(loss, meta["eval_loss"], "evaluation loss")
            packed(case, prediction.resized(query.shape[2:]).argmax(1))
            close(code["means"][0], case.arrays["means"], "means")
            close(prior_mask(of_query[2][:, -1].relu(), code["deep"][0])[:, 0], case.arrays["prior"], "prior")
        fresh(method)
        of_query, of_support = case.pfenet_features(n) if from_features else method.features(query, support)
        prefix = "bn_" if batch_statistics else ""
        for scale, grid, kind in ((1, LossGrid.image, ""), (2, LossGrid.logits, "grid_")):
            method.scale = scale
            method.zero_grad()
            prediction = method.decode(of_query, method.encode(of_support, mask))
            if scale == 1:
                close(prediction.logits, case.arrays[f"{prefix}train_logits"], f"{prefix}training logits")
            loss, parts = episode_loss(prediction, truth, inner_weight=0.25, ignore_unknown=True, grid=grid)
            main, aux = f"{prefix}{kind}main_loss", f"{prefix}{kind}aux_loss"
            close(parts.pop("final"), meta[main], main)
            close(torch.stack([*parts.values()]).mean(), meta[aux], aux)
            loss.backward()
            norms_close(method, case, f"{prefix}{kind}grad_norms", pfenet_name)


def rpmm_name(own: str) -> str:
    if own.startswith("backbone."):
        return own.removeprefix("backbone.net.")
    patterns = {
        r"^reduce\.": "layer5.", r"^activate\.": "layer55.", r"^gather\.": "layer56.", r"^head\.join\.": "layer7.",
        r"^head\.to_logits\.": "layer9.", r"^head\.whole\.": "layer6.layer6_0.", r"^head\.pixel\.": "layer6.layer6_1.",
    }  # fmt: skip
    own = re.sub(r"^head\.residuals\.(\d)\.", lambda m: f"residule{int(m[1]) + 1}.", own)
    own = re.sub(r"^head\.atrous\.(\d)\.", lambda m: f"layer6.layer6_{int(m[1]) + 2}.", own)
    return next((re.sub(mine, theirs, own) for mine, theirs in patterns.items() if re.match(mine, own)), own)


def norms_in_eval(method: nn.Module) -> None:
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def check_rpmm(case: Case) -> None:
    meta = case.meta
    residual = meta["method"] == "RPMM"
    backbone = resnet(
        meta, trainable=True, stride_in_1x1=True, dilation="whole", ceil_pool=True, blocks=[2, 3], last_maps=True,
        norms_learn=False, batch_statistics=True,
    )  # fmt: skip
    method = RPMM(backbone, components=[1, 3, 6] if residual else [3], residual=residual)
    case.fill(method, rpmm_name)
    assert method.learnable_parameters() == meta["params"]
    if "params_all" in meta:
        assert sum(p.numel() for p in method.parameters()) == meta["params_all"]
    without_dropout(method)
    method.draw = lambda k, _: torch.from_numpy(case.draw.mu(meta["seed"], k)[0])  # type: ignore[method-assign]
    query, support, mask, truth = case.inputs()
    stages: list[Tensor] = []
    method.head.register_forward_hook(lambda *args: stages.append(args[2]))
    with torch.no_grad():
        of_query, of_support = method.eval().features(query, support)
        code = method.encode(of_support, mask)
        logits = method.decode(of_query, code).logits
    close(torch.stack(stages), case.arrays["stage_logits"], "stage logits")
    close(logits * 3 / 5 if meta["shot"] > 1 and residual else logits, case.arrays["output"], "output")
    for array, side in (("mu_f", "foreground"), ("mu_b", "background")):
        close(torch.cat(code[side], dim=1), case.arrays[array], array)
    reduced = method.reduce(middle_maps(*of_query)).detach()
    maps = [probabilities(reduced, f, b) for f, b in zip(code["foreground"], code["background"], strict=True)]
    close(torch.stack(maps), case.arrays["prob_map"], "probability maps")
    for prefix in ("eval", "train", "train_bneval"):
        if f"{prefix}_loss" not in meta:
            continue
        fresh(method)
        if prefix != "train":
            norms_in_eval(method)
        before = {key: value.clone() for key, value in method.named_buffers()}
        stages.clear()
        loss, _ = episode_loss(method(query, support, mask), truth, inner_weight=1.0, grid=LossGrid.image)
        close(loss, meta[f"{prefix}_loss"], f"{prefix} loss")
        if prefix == "eval":
            continue
        close(torch.stack(stages), case.arrays[f"{prefix}_stage_logits"], f"{prefix} stage logits")
        loss.backward()
        norms_close(method, case, f"{prefix}_grad_norms", rpmm_name)
        for key, value in method.named_buffers():
            value.copy_(before[key])


def check_asgnet(case: Case) -> None:
    meta = case.meta
    if "ppm_scales" not in meta:  # seeds alone
        masks = case.asgnet_masks()
        side = (meta["size"] - 1) // meta["down_stride"] + 1
        for i, mask in enumerate(masks):
            seeds = place_seeds(mask, (side, side), meta["avg_sp_area"], meta["max_sp"])
            expected = case.arrays["seeds"][i]
            assert np.array_equal(seeds, expected[: len(seeds)]) and not expected[len(seeds) :].any(), i
        return
    grid = (meta["size"] - 1) // 8 + 1
    bins = [side if side <= 1 else side * 60 / grid for side in meta["ppm_scales"]]
    backbone = resnet(meta, deep_stem=True, dilation="whole", blocks=[2, 3], last_maps=True, batch_statistics=True)
    method = ASGNet(backbone, bins=bins, area=meta["avg_sp_area"], most=meta["max_sp"])

    def name(own: str) -> str:
        own = own.replace("reduce.0.", "down_conv.0.").replace("join.", "corr_conv.")
        return own.removeprefix("backbone.net.") if own.startswith("backbone.") else pfenet_name(own)

    case.fill(method, name)
    assert method.learnable_parameters() == meta["params"]
    without_dropout(method)
    query, support, mask, truth, _, support_padding = case.padded_inputs()
    mask = mask.masked_fill(support_padding, 255)
    for i, j in np.ndindex(meta["batch"], meta["shot"]):
        expected = case.arrays["seeds"][i, j]
        seeds = place_seeds(mask[i, j].numpy(), (grid, grid), meta["avg_sp_area"], meta["max_sp"])
        assert np.array_equal(seeds, expected[: len(seeds)]) and not expected[len(seeds) :].any()
    with torch.no_grad():
        method.eval()
        prediction = method(query, support, mask)
        stride = meta["stride"]
        output = prediction.resized(query.shape[2:])
        close(output[..., ::stride, ::stride], case.arrays["logits"], "logits")
        prototypes, there = method.encode(method.features(query, support)[1], mask)["prototypes"]
        for i in range(meta["batch"]):
            close(prototypes[i][there[i]].T, case.arrays[f"centres{i}"], f"centres{i}")
        loss, parts = episode_loss(prediction, truth, ignore_unknown=True, grid=LossGrid.image)
        close(parts["final"], meta["eval_loss"], "evaluation loss")
        assert output.argmax(1).sum((1, 2)).tolist() == meta["eval_pred_fg_pixels"]
    for prefix in ("train_bneval", "train"):
        if f"{prefix}_loss" not in meta:
            continue
        fresh(method)
        if prefix == "train_bneval":
            method.backbone.eval()
        prediction = method(query, support, mask)
        close(prediction.logits, case.arrays[f"{prefix}_logits_low"], f"{prefix} logits")
        loss, parts = episode_loss(prediction, truth, inner_weight=0.25, ignore_unknown=True, grid=LossGrid.image)
        close(parts["final"], meta[f"{prefix}_main_loss"], f"{prefix} main loss")
        close(loss, meta[f"{prefix}_loss"], f"{prefix} loss")
        loss.backward()
        norms_close(method, case, f"{prefix}_grad_norms", name)


def check_fwb(case: Case) -> None:
    meta = case.meta
    backbone = resnet(
        meta, trainable=True, dilation="torchvision", blocks=[1, 4], last_maps=True, batch_statistics=True, momentum=0.05
    )  # fmt: skip
    settings = {"experts": meta["steps"] + 1, "rate": meta["adam_lr"], "threshold": meta["threshold"]}
    method = FWB(backbone, **settings)

    def name(own: str) -> str:
        return own.removeprefix("backbone.net.").replace("exit.", "exit_layer.")

    case.fill(method, name)
    assert method.learnable_parameters() == meta["params"]
    query, support, mask, truth = case.inputs()
    with torch.no_grad():
        of_query, of_support = method.eval().features(query, support)
    deep, low = of_query[1][:, -1], of_query[0][:, -1].relu()
    variants = {re.sub(r"_(similarity|support_iou|experts|logits|score.*|train.*)$", "", key) for key in case.arrays}
    for variant in sorted(variants - {"meta"}):
        method.weighting, method.shadowed = "c1" in variant, variant.endswith("_released")
        boosts = "c2" in variant
        method.experts = settings["experts"] if boosts else 0
        fresh(method, training=False)
        with torch.no_grad():
            code = method.encode(of_support, mask)
            prediction = method.decode(of_query, code)
            output = prediction.resized(query.shape[2:])
        if boosts:
            experts, weights, *_ = code["boosted"]
            close(weights[0], case.arrays[f"{variant}_support_iou"], "IoU on the supports")
            close(experts[0, :, ::16], case.arrays[f"{variant}_experts"], "experts", rtol=1e-6)
            close(output[:, 1, ::4, ::4], case.arrays[f"{variant}_score"], "votes")
            assert output.argmax(1).sum().item() == meta[f"{variant}_fg_pixels"]
            continue
        weighted = deep * code["relevance"][0][:, :, None, None]
        similarity = method.similarity(weighted, code["relevance"][0] * code["vector"][0], low.shape[2:])
        close(similarity.detach(), case.arrays[f"{variant}_similarity"], "similarity")
        close(output[..., ::4, ::4], case.arrays[f"{variant}_logits"], "logits")
        close(
            episode_loss(prediction, truth, ignore_unknown=True, grid=LossGrid.image)[0],
            meta[f"{variant}_eval_loss"],
            "loss",
        )
        assert output.argmax(1).sum((1, 2)).tolist() == meta[f"{variant}_fg_pixels"]
        if f"{variant}_train_loss" not in meta:
            continue
        before = {key: value.clone() for key, value in method.named_buffers()}
        fresh(method)
        in_training = method.features(query, support)
        code = method.encode(in_training[1], mask)
        prediction = method.decode(in_training[0], code)
        close(code["vector"][0][:, ::8], case.arrays[f"{variant}_train_class_vector"], "class vector")
        expected = case.arrays[f"{variant}_train_relevance"]
        if method.weighting:
            close(code["relevance"][0][:, ::8], expected, "relevance")
        close(prediction.resized(query.shape[2:])[..., ::4, ::4], case.arrays[f"{variant}_train_logits"], "training logits")
        loss, _ = episode_loss(prediction, truth, ignore_unknown=True, grid=LossGrid.image)
        close(loss, meta[f"{variant}_train_loss"], "training loss")
        loss.backward()
        norms_close(method, case, f"{variant}_train_grad_norms", name)
        for key, value in method.named_buffers():
            value.copy_(before[key])


def check_ppnet(case: Case) -> None:
    """Of two centres that are equally near the published code takes the one that roundings favour on its machine."""
    try:
        _check_ppnet(case)
    except AssertionError:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mshnet_pl.models.ppnet.parts.nearest", lambda d: d.shape[1] - 1 - nearest(d.flip(1)))
            _check_ppnet(case)


def _check_ppnet(case: Case) -> None:
    meta = case.meta
    backbone = resnet(
        meta, trainable=True, dilation="torchvision", blocks=[4], last_maps=True, learns_from=3, batch_statistics=True
    )  # fmt: skip
    with_graph = meta["variant"] == "graph"
    settings: dict[str, Any] = {"share": 0.8, "iterations": 20} if with_graph else {}
    if with_graph:
        settings["graph"] = LatentGraph(
            2048, meta["pt_lambda"], meta["p_value_thres"], meta["topk"], meta["un_bs"]
        )  # fmt: skip
    method = PPNet(backbone, classes=15, semantic=meta["base_loss_weight"], **settings)
    graph_names = {"within": "inner_w1", "change": "inner_trans", "pixels": "inter_w1", "parts": "inter_w2"}

    def name(own: str) -> str:
        if own.startswith("graph."):
            return f"latentGraph.{graph_names[own.split('.')[1]]}.weight"
        return own.removeprefix("backbone.net.").replace("classifiers.", "aspp.c")

    case.fill(method, name)
    of_graph = sum(p.numel() for p in method.graph.parameters()) if method.graph else 0  # which the reference does not train
    assert method.learnable_parameters() - of_graph == meta["params_optimised"]
    assert sum(p.numel() for p in method.parameters()) == meta["params"]
    query, support, mask, truth = case.inputs()
    images, size = meta["batch"] * (meta["shot"] + 1), meta["size"]
    labels = torch.from_numpy(case.draw.base_label(meta, images)).double()
    method.class_labels = lambda *_: labels  # type: ignore[method-assign]
    assert labels.shape == (images, size, size)
    calls: list[tuple[int, str]] = []

    def pinned(n: int, _: torch.Generator) -> Tensor:
        return torch.from_numpy(case.draw.seeds(meta["seed"], *calls.pop(0), n))

    method.starts = pinned  # type: ignore[method-assign]
    orders = (("fg", "bg"), ("align_bg", "align_fg"))
    pairs = [[(i, side) for i in range(meta["batch"]) for side in sides] for sides in orders]
    calls.extend(pairs[0])

    def aligned(points: list[int]) -> list[tuple[int, str]]:
        """The calls of the alignment loss; an episode without predicted foreground has none."""
        found, place = [], 0
        for i in range(meta["batch"]):
            place += 2
            of_query = sum(points[place : place + 2]) >= 4 * ((size + 7) // 8) ** 2  # both regions, on twice the grid
            if len(points) > 2 * meta["batch"] and (len(points) == 4 * meta["batch"] or of_query):
                found += [(i, side) for side in orders[1]]
                place += 2
        return found

    def unlabelled() -> list[Tensor]:
        if not with_graph:
            return []
        drawn = [torch.from_numpy(x).double() for x in case.draw.unlabelled(meta, meta["unlabelled"])]
        return method.superpixels(*(x.transpose(0, 1).flatten(0, 1) for x in drawn))

    with torch.no_grad():
        of_query, of_support = method.eval().features(query, support)
        plain = method.encode(of_support, mask)
        calls.extend(pairs[0])
        code = method.encode(of_support, mask, unlabelled())
        prediction = method.decode(of_query, code)
        output = prediction.resized(query.shape[2:])
    for kind, parts in (("kmeans", plain["parts"][0]), ("used", code["parts"][0])):
        for side, number in (("bg", 0), ("fg", 1)):
            close(parts[:, number, :, ::16], case.arrays[f"{side}_{kind}"], f"{side}_{kind}")
    close(output[..., :: meta["stride"], :: meta["stride"]], case.arrays["logits"], "logits")
    close(episode_loss(prediction, truth, ignore_unknown=True, grid=LossGrid.image)[0], meta["eval_loss"], "evaluation loss")
    assert output.argmax(1).sum((1, 2)).tolist() == meta["eval_pred_fg_pixels"]
    method.requires_grad_(True)
    for prefix in ("train_bneval", "train"):
        if f"{prefix}_loss" not in meta:
            continue
        fresh(method)
        if prefix == "train_bneval":
            method.backbone.eval()
        calls[:] = [*pairs[0], *aligned(meta[f"{prefix}_kmeans_points"])]
        of_query, of_support = method.features(query, support)
        prediction = method.decode(of_query, method.encode(of_support, mask, unlabelled()))
        close(prediction.resized(query.shape[2:])[..., ::8, ::8], case.arrays[f"{prefix}_logits"], f"{prefix} logits")
        loss, losses = episode_loss(prediction, truth, ignore_unknown=True, grid=LossGrid.image)
        for part, key in (("final", "query"), ("alignment", "align"), ("semantic", "base")):
            close(losses[part], meta[f"{prefix}_{key}_loss"], f"{prefix} {key} loss")
        close(loss, meta[f"{prefix}_loss"], f"{prefix} loss")
        loss.backward()
        norms_close(method, case, f"{prefix}_grad_norms", name)


CYCTR = {
    "reduce_query.0.": "adjust_feature_qry.", "reduce_support.0.": "adjust_feature_supp.", "join_query.": "qry_merge_feat.",
    "join_support.": "supp_merge_feat.", "reduce.": "merge_multi_lvl_reduce.", "project.": "pred_supp_qry_proj.",
    "join_back.": "supp_init_merge.", "head.0.0.": "cls.0.", "head.2.": "cls.3.", "head_back.0.0.": "supp_cls.0.",
    "head_back.2.": "supp_cls.3.", "transformer.level": "transformer.level_embed",
    "transformer.norms.": "transformer.layer_norms.",
}  # fmt: skip
CYCTR_LAYERS = {
    "offsets": "sampling_offsets", "weights": "attention_weights", "values": "value_proj", "query": "q_fc", "key": "k_fc",
    "value": "v_fc", "wide": "layers.0.0", "narrow": "layers.1",
}  # fmt: skip


def cyctr_name(own: str) -> str:
    if own.startswith("backbone."):
        return own.removeprefix("backbone.net.")
    own = re.sub(r"^spare\.(\d)\.0", lambda m: f"addtional_proj.{2 * int(m[1])}", own)
    own = re.sub(r"^refine\.(\d)\.0", lambda m: f"merge_multi_lvl_sum.{2 * int(m[1])}", own)
    own = re.sub(r"^refine_back\.(\d)\.0", lambda m: f"supp_beta_conv.{2 * int(m[1])}", own)
    found = re.match(r"^transformer\.(among|across|feed)\.(\d)\.(\w+)\.(\w+)$", own)
    if found:
        group, number, layer, kind = found.groups()
        theirs = {"among": "qry_self_layers", "across": "cross_layers", "feed": "ffns"}[group]
        output = "output_proj" if group == "among" else "proj"
        return f"transformer.{theirs}.{number}.{CYCTR_LAYERS.get(layer, output)}.{kind}"
    return next((own.replace(mine, theirs, 1) for mine, theirs in CYCTR.items() if own.startswith(mine)), own)


def check_cyctr(case: Case) -> None:
    meta = case.meta
    backbone = resnet(meta, deep_stem=True, dilation="torchvision", last_maps=True)
    method = CyCTR(backbone, meta["hidden"], mixed_masks=True, spare=True)
    case.fill(method, cyctr_name)
    assert method.learnable_parameters() == meta["params"]
    assert sum(p.numel() for p in method.transformer.parameters()) == meta["params_transformer"]
    without_dropout(method)
    query, support, mask, truth, padding, support_padding = case.padded_inputs()
    mask = mask.masked_fill(support_padding, 255)
    sizes: list[int] = []
    scales: list[float] = []

    class Pinned(Sampler):
        def permutation(self, n: int, random: torch.Generator) -> Tensor:
            sizes.append(n)
            return torch.from_numpy(case.draw.permutation(meta["seed"], len(sizes) - 1, n))

        def scale(self, low: float, high: float) -> float:
            scales.append(float(case.draw.uniform(meta["seed"], len(scales), low, high)))
            return scales[-1]

    method.sampler = lambda of: Pinned(meta["shot"], [torch.Generator()] * len(of), method.mixed_masks)  # type: ignore[method-assign]
    seen: list[Tensor] = []
    method.transformer.register_forward_hook(lambda *args: seen.append(args[2]))
    stride = meta["stride"]
    with torch.no_grad():
        of_query, of_support = method.eval().features(query, support)
        code = method.encode(of_support, mask)
        prediction = method.decode(of_query, code, padding)
        output = prediction.resized(query.shape[2:])
    assert sizes == meta["eval_perm_sizes"]
    close(prior_mask(of_query[2][:, -1].relu(), code["deep"][0]), case.arrays["prior"], "prior")
    for i, array in ((1, "sampled_mask"), (2, "sampled_padding")):
        assert np.array_equal(code["tokens"][i].numpy(), case.arrays[array] != 0), array
    close(seen[0][:, ::32, ::2, ::2], case.arrays["transformer_out"], "the transformer's output")
    close(output[..., ::stride, ::stride], case.arrays["logits"], "logits")
    how = {"ignore_unknown": True, "grid": LossGrid.image, "criterion": Criterion.dice}
    close(episode_loss(prediction, truth, **how)[0], meta["eval_loss"], "evaluation loss")
    assert output.argmax(1).sum((1, 2)).tolist() == meta["eval_pred_fg_pixels"]
    if "train_loss" not in meta:
        return
    sizes.clear()
    fresh(method)
    in_training = method.features(query, support)
    prediction = method.decode(in_training[0], method.encode(in_training[1], mask), padding)
    labels = prediction.resized(query.shape[2:]).argmax(1)[..., ::stride, ::stride]
    assert np.array_equal(labels.numpy(), case.arrays["train_pred"])
    loss, parts = episode_loss(prediction, truth, **how)
    assert sizes == meta["train_perm_sizes"]
    np.testing.assert_allclose(scales, meta["train_scales"], rtol=1e-12)
    close(parts["final"], meta["train_main_loss"], "training main loss")
    close(parts["support"], meta["train_aux_loss"], "training auxiliary loss")
    close(loss, meta["train_loss"], "training loss")
    loss.backward()
    norms_close(method, case, "train_grad_norms", cyctr_name)


CHECKS: dict[str, Callable[[Case], None]] = {
    "hsnet": check_hsnet, "panet": check_panet, "pfenet": check_pfenet, "RPMM": check_rpmm, "ASGNet": check_asgnet,
    "FWB": check_fwb, "PPNet": check_ppnet, "CyCTR": check_cyctr,
}  # fmt: skip


CONTAINED = {
    "FWB/fwb_r101_1shot", "PPNet/ppnet_r50_1shot", "RPMM/pmm_r50_1shot", "hsnet/vgg16_1shot", "panet/features_1shot",
    "pfenet/head_1shot",
}  # fmt: skip
"""Of the published ones those that compute a part of what another one does."""


def is_long_version(case: Case) -> bool:
    """Several shots through a network, or what another case holds as well."""
    return bool(case.meta["shot"] > 1) or case.title in CONTAINED


def parameters() -> Iterator[ParameterSet]:
    every = "MSHNET_GOLDEN_PEERS" in os.environ  # whoever names a folder wants all of it
    for case in cases():
        slow = not every and is_long_version(case)
        yield pytest.param(case, marks=pytest.mark.slow if slow else (), id=case.title)


def test_golden_folder_has_cases() -> None:
    if not PEERS.is_dir():
        pytest.skip(f"no golden numbers at {PEERS}")
    found = {case.method for case in cases()}
    assert found and found <= {*CHECKS}, f"{PEERS}: files in folders of other names than {', '.join(CHECKS)}"


@pytest.mark.parametrize("case", [*parameters()])
def test_a_method_equals_its_published_implementation(case: Case) -> None:
    CHECKS[case.method](case)
