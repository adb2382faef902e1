"""CoNE: joint actions that no additive critic can tell apart, with the settings of the published tables.

The table of arXiv 2410.21151 for up to 65,536 joint actions (2 to 8 dimensions) without pits, means and standard
deviations over 5 seeds of 20,000 updates, of BraVE and of FAS:

    16: 1.5 +- 0.0, 1.5 +- 0.0     64: -0.4 +- 0.0, -0.4 +- 0.0    256: -2.0 +- 0.1, -2.3 +- 0.6
    1024: -3.4 +- 0.1, -10.8 +- 2.3                  4096: -6.9 +- 1.6, -7.3 +- 3.1
    16k: -6.1 +- 0.4, -25.6 +- 33.3                  65k: -8.2 +- 2.2, -24.4 +- 10.4

Its data are made by ``spin-rl data make cone-8x5-1inner medium --bins 2 --size 10000``, and so on.
"""

from spin_rl.sweeps.planning.sweep import TINY, Sweep

SPACE = {
    "task": tuple(f"cone-{dimensions}x5-1inner" for dimensions in range(2, 9)),
    "bins": (2,),
    "level": ("medium",),
    "algorithm": ("brave", "fas"),
    "objective": ("brave", "fas"),
    "seed": (0, 1, 2, 3, 4),
    "preset": ("paper",),
    "updates": (20_000,),
    "evaluations": (10,),
    "episodes": (1,),  # neither the problem nor the methods are random
    "lr": (2.5e-4,),
    "gamma": (0.9,),
    "train_batch_size": (128,),
    "variant": ("brave",),
}

TINY_SPACE = {**TINY, "task": ("cone-2x5-1inner",), "train_batch_size": (16,)}

SWEEP = Sweep(
    name="cone",
    description="Does a method find joint actions of sub-actions that depend on each other?",
    space=SPACE,
    tiny=TINY_SPACE,
)
