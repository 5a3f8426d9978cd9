"""Damage as disks, copies and editors do it: single bits, and files that are cut."""

import random


def damaged(content: bytes, rng: random.Random) -> bytes:
    """With one to three bits flipped, or without its end, or without a piece of its middle."""
    kind = rng.randrange(4)
    if kind < 2:
        changed = bytearray(content)
        for bit in rng.sample(range(8 * len(content)), rng.randint(1, 3)):
            changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)
    start = rng.randrange(len(content))
    end = len(content) if kind == 2 else rng.randint(start + 1, len(content))
    return content[:start] + content[end:]
