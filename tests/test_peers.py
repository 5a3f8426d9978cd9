"""The field's methods against the numbers of their published implementations, in float64 on drawn weights and inputs.

Every ``.npz`` below the folder of golden numbers is read; what a case holds follows from its ``meta``, not from its name.
"""

import os
from collections.abc import Callable, Iterator

import pytest
from _pytest.mark import ParameterSet

from peer_decoders import check_asgnet, check_cyctr, check_hsnet, check_pfenet
from peer_draws import PEERS, Case, cases
from peer_prototypes import check_fwb, check_panet, check_ppnet, check_rpmm

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
