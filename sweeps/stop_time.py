"""When to stop pretraining: a search with two objectives over the step, the width of the heads and the learning rate.

A point is one choice of all three, tried with every seed; its values are the mean normalised score of the last
evaluation (higher is better) and the mean seconds of pretraining and training (fewer are better). One pretraining for
each seed, to the longest of the steps, leaves checkpoints at all of them: no point pretrains for itself, and each is
charged what its checkpoint took.
"""

from spin_rl.sweeps.analysis.front import analysis
from spin_rl.sweeps.planning.search import search_plan
from spin_rl.sweeps.planning.sweep import TINY, Sweep

SPACE = {
    "task": ("cheetah-run",),
    "bins": (3,),
    "level": ("medium-expert",),
    "algorithm": ("spin",),
    "objective": ("iql",),
    "asm_steps": (0, 125, 250, 500, 1000, 2000, 4000, 8000),  # 0: the untrained trunk
    "head_width": (128, 32, 64, 256),  # the search begins with the first value of each parameter
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
    plan_with=search_plan,
    analysis=analysis,
)
