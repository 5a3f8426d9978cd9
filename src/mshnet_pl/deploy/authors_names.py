"""Names and shapes of the entries of the authors' published checkpoints."""

import re

_CBR = {"0": "conv0", "1": "bn0"}
_RULES: list[tuple[str, str]] = [
    (r"similarities\.prototype\.(?P<b>\d)\.weight", "query_sup_corrConv.{index}.conv2.weight"),
    (r"merging\.(?P<b>\d)\.paths\.prototype\.block_conv\.(?P<i>\d)\.(?P<c>\d)\.(?P<p>\w+)",
     "qs_layer_corrConv.{index}.{numbered}.{p}"),
    (r"merging\.(?P<b>\d)\.paths\.cosine\.block_conv\.(?P<i>\d)\.(?P<c>\d)\.(?P<p>\w+)",
     "sim_layer_corrConv.{index}.{numbered}.{p}"),
    (r"merging\.(?P<b>\d)\.paths\.prototype\.shot_conv\.branches\.(?P<i>\d)\.(?P<c>\d)\.(?P<p>\w+)",
     "sqShotConv{block}.conv{i}.{c}.{p}"),
    (r"merging\.(?P<b>\d)\.paths\.prototype\.shot_conv\.merge\.0\.(?P<c>\d)\.(?P<p>\w+)",
     "sqShotConv{block}.conv3.{c}.{p}"),
    (r"merging\.(?P<b>\d)\.paths\.cosine\.shot_conv\.(?P<c>\d)\.(?P<p>\w+)", "simShotConv{block}.{cbr}.{p}"),
    (r"merging\.(?P<b>\d)\.project\.cosine\.(?P<p>\w+)", "conv{block}.conv1.{p}"),
    (r"merging\.(?P<b>\d)\.project\.prototype\.(?P<p>\w+)", "conv{block}.conv2.{p}"),
    (r"merging\.(?P<b>\d)\.merge\.0\.(?P<c>\d)\.(?P<p>\w+)", "conv{block}.merge.{cbr}.{p}"),
    (r"merging\.(?P<b>\d)\.merge\.1\.mlp\.0\.(?P<p>\w+)", "conv{block}.chATT.mlp.1.{p}"),
    (r"merging\.(?P<b>\d)\.merge\.1\.mlp\.2\.(?P<p>\w+)", "conv{block}.chATT.mlp.3.{p}"),
    (r"merging\.(?P<b>\d)\.merge\.2\.(?P<c>\d)\.(?P<p>\w+)", "conv{block}.merge2.{cbr}.{p}"),
    (r"pyramid\.project\.block4\.(?P<p>\w+)", "conv43.conv1.{p}"),
    (r"pyramid\.project\.block3\.(?P<p>\w+)", "conv43.conv2.{p}"),
    (r"pyramid\.merge43\.0\.(?P<c>\d)\.(?P<p>\w+)", "conv43.merge.{cbr}.{p}"),
    (r"pyramid\.merge43\.1\.(?P<c>\d)\.(?P<p>\w+)", "conv43.merge2.{cbr}.{p}"),
    (r"pyramid\.from43\.(?P<c>\d)\.(?P<p>\w+)", "conv432.conv1.{cbr}.{p}"),
    (r"pyramid\.project\.block2\.(?P<p>\w+)", "conv432.conv2.{p}"),
    (r"pyramid\.merge432\.0\.(?P<c>\d)\.(?P<p>\w+)", "conv432.merge.{cbr}.{p}"),
    (r"pyramid\.merge432\.1\.(?P<c>\d)\.(?P<p>\w+)", "conv432.convout.{cbr}.{p}"),
    (r"decoder\.reduce\.(?P<c>\d)\.(?P<p>\w+)", "decoder1.conv0.{c}.{p}"),
    (r"decoder\.refine\.(?P<c>\d)\.(?P<p>\w+)", "decoder1.conv1.{cbr}.{p}"),
    (r"decoder\.merge\.(?P<c>\d)\.(?P<p>\w+)", "decoder1.conv2.{cbr}.{p}"),
    (r"decoder\.head\.(?P<c>\d)\.(?P<p>\w+)", "decoderOut.{c}.{p}"),
    (r"inner_heads\.(?P<b>\d)\.(?P<c>\d)\.(?P<p>\w+)", "decoder{block}.{c}.{p}"),
]  # fmt: skip


def authors_name(name: str) -> str:
    """The authors' name of an entry of ``MSHNet``'s state dict: ``merge.NAME``, or ``backbone.`` and torchvision's name.

    Raises:
        KeyError: the authors' network has nothing like it.
    """
    if name.startswith("backbone.net."):
        return name.replace("backbone.net.", "backbone.", 1)
    for pattern, template in _RULES:
        match = re.fullmatch(pattern, name)
        if match:
            parts = match.groupdict()
            block = int(parts.get("b", 0))
            convolution = parts.get("c", "0")
            return "merge." + template.format(
                **parts,
                index=2 - block,
                block=block + 2,
                numbered=f"{'conv' if convolution == '0' else 'bn'}{parts.get('i')}",
                cbr=_CBR.get(convolution),
            )
    raise KeyError(name)


def authors_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The authors' shape of that entry: their W of eq. 4 is a 1 x 1 convolution over query, then prototype channels."""
    if name.startswith("similarities.prototype."):
        return (1, shape[0] * shape[1], 1, 1)
    return shape
