"""The comparison: every method with every objective on every task and level, each with the same data and budget."""

from spin_rl.sweeps.sweep import Sweep

SPACE = {
    "task": ("cheetah-run", "finger-spin"),
    "bins": (3,),
    "level": ("medium-expert", "random-medium-expert"),
    "algorithm": ("factored", "autoregressive", "saint", "spin", "spin-cached", "spin-distill"),
    "objective": ("iql", "awac", "bcq"),
    "asm_steps": (2000,),
    "seed": (0, 1, 2),
    "preset": ("small",),
    "updates": (10_000,),
    "evaluations": (10,),
    "episodes": (10,),
}

TINY = {
    "task": ("cheetah-run",),
    "level": ("medium-expert",),
    "algorithm": ("factored", "spin"),
    "objective": ("iql", "bcq"),
    "asm_steps": (20,),
    "seed": (0,),
    "preset": ("tiny",),
    "updates": (4,),
    "evaluations": (2,),
    "episodes": (1,),
}

SWEEP = Sweep(
    name="baselines",
    description="Which method is best, and at what cost?",
    space=SPACE,
    tiny=TINY,
)
