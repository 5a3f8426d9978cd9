"""HSNet, PFENet, ASGNet and CyCTR, which decode what query and supports share, against a case of golden numbers."""

import re

import numpy as np
import torch
from torch import Tensor

from mshnet_pl.backbones.vgg import VGG16
from mshnet_pl.models.asgnet.model import ASGNet
from mshnet_pl.models.asgnet.superpixels import place_seeds
from mshnet_pl.models.cyctr.model import CyCTR
from mshnet_pl.models.cyctr.sampling import Sampler
from mshnet_pl.models.hsnet.model import HSNet
from mshnet_pl.models.pfenet.model import PFENet
from mshnet_pl.models.prior import prior_mask
from mshnet_pl.options import Criterion, LossGrid
from mshnet_pl.training.losses import episode_loss
from peer_draws import Case
from peer_numbers import close, fresh, norms_close, packed, resnet, trainings, without_dropout


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
    for prefix in trainings(method, meta):
        prediction = method(query, support, mask)
        close(prediction.logits, case.arrays[f"{prefix}_logits_low"], f"{prefix} logits")
        loss, parts = episode_loss(prediction, truth, inner_weight=0.25, ignore_unknown=True, grid=LossGrid.image)
        close(parts["final"], meta[f"{prefix}_main_loss"], f"{prefix} main loss")
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
