"""What further shots give the default network: the same queries with the first one, the first five and all of ten supports.

    python experiments/more_shots.py ROOT MINUTES [SIZE]

Novel classes of every fold of PASCAL-5i, the network as its file says, 473 x 473, or SIZE x SIZE and enlarged to that;
episode n of every fold before episode n + 1 of any, until the minutes are over. Other tests draw 5-shot and 10-shot episodes
apart, whose queries differ: what one query is easier than another then hides what shots give.
"""

import sys
import time
from itertools import pairwise

import torch
from weak_supports import SEED, SIDE, Row, Tested, told

from mshnet_pl.data.protocol.folds import make_fold
from mshnet_pl.data.protocol.sampling import draw_seeded
from mshnet_pl.options import SupportKind
from mshnet_pl.report.formats import aligned

SHOTS = 1, 5, 10


def main(root: str, minutes: float, size: int = SIDE) -> None:
    """Print the table."""
    torch.set_grad_enabled(False)
    tested, end, number = Tested(root, size), time.monotonic() + 60 * minutes, 0
    rows: dict[int, list[Row]] = {shots: [] for shots in SHOTS}
    while time.monotonic() < end:
        for fold in range(4):
            draw = draw_seeded(tested.names, make_fold(fold, 20).novel, max(SHOTS), SEED, number)[0]
            for shots in SHOTS:
                given = draw._replace(supports=draw.supports[:shots])
                code = tested.code(fold, given, tested.support_masks(fold, given, SupportKind.mask, number))
                counts = tested.counted(draw, tested.margin(fold, draw.query, code), number)
                rows[shots].append((fold, counts, draw))
        number += 1
    table = [["shots", "mIoU", "less fewer"], ["---:"] * 3, [str(SHOTS[0]), told(rows[SHOTS[0]]), ""]]
    for fewer, more in pairwise(SHOTS):
        table.append([str(more), told(rows[more]), told(rows[more], rows[fewer], "+.1f")])
    print(f"{number} episodes a fold\n\n{aligned(table)}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:]))
