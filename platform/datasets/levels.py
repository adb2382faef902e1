"""Levels: the behaviour policies that collect a dataset, in equal shares."""

from spin_rl.errors import unknown_name

LEVELS: dict[str, tuple[str, ...]] = {
    "random": ("random",),
    "medium": ("medium",),
    "expert": ("expert",),
    "medium-expert": ("medium", "expert"),
    "random-medium-expert": ("random", "medium", "expert"),
}

SIZES: dict[str, int] = {
    "random": 1_000_000,
    "medium": 1_000_000,
    "expert": 1_000_000,
    "medium-expert": 2_000_000,
    "random-medium-expert": 200_000,
}
"""Transitions of each level in Beeson et al. 2024 (arXiv 2411.11088)."""


def check_level(level: str) -> None:
    """Raises UserError for a level that cannot be made, listing those that can."""
    if level not in LEVELS:
        raise unknown_name("level", level, LEVELS)
