"""When to stop pretraining: a search over the step, with the width of the heads and the learning rate, for two aims.

A point is one choice of all three, tried with every seed; its values are the mean normalised score of the last
evaluation and the mean seconds of pretraining and training. The steps are those at which one pretraining, a seed's to
the longest of them, leaves checkpoints: no point pretrains for itself, and each is charged what its checkpoint took.
"""

from spin_rl.sweeps.analysis.front import analysis
from spin_rl.sweeps.planning.sweep import TINY, Sweep
from spin_rl.sweeps.search.sweep_search import searched_plan

SPACE = {
    "task": ("cheetah-run",),
    "bins": (3,),
    "level": ("medium-expert",),
    "algorithm": ("spin",),
    "objective": ("iql",),
    "asm_steps": (0, 125, 250, 500, 1000, 2000, 4000, 8000),  # 0: the untrained trunk
    "head_width": (128, 32, 64, 256),  # the first of each is what the search begins with
    "lr": (3e-4, 1e-4, 1e-3),
    "seed": (0, 1, 2),
    "preset": ("small",),
    "updates": (10_000,),
    "evaluations": (20,),
    "episodes": (10,),
}

TINY_SPACE = {
    **TINY,
    "asm_steps": (0, 10, 20),
    "head_width": (16, 8),
    "lr": (3e-4,),
    "seed": (0, 1),
}

SWEEP = Sweep(
    name="stop-time",
    description="When should pretraining stop, for the best score in the least time?",
    space=SPACE,
    tiny=TINY_SPACE,
    plan_with=searched_plan,
    analysis=analysis,
)
