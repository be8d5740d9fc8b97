"""Tests that try at random: a few times, or as often as docs/reliability.md says."""

import os


def tries(few: int, all_of_them: int) -> int:
    """The number of tries: all of them in `make test-attack`, which sets CONVPOSE_ATTACK."""
    return all_of_them if os.environ.get("CONVPOSE_ATTACK") else few
