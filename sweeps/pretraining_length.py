"""How long to pretrain: return and time against the length of pretraining, from none at all (the paper's figure 2)."""

from spin_rl.sweeps.sweep import Sweep

SPACE = {
    "task": ("cheetah-run",),
    "bins": (3,),
    "level": ("medium-expert",),
    "algorithm": ("factored", "spin"),  # the first sets the target for the time to target
    "objective": ("iql",),
    "asm_steps": (0, 250, 500, 1000, 2000, 4000),  # 0: the untrained trunk
    "seed": (0, 1, 2),
    "preset": ("small",),
    "updates": (10_000,),
    "evaluations": (20,),
    "episodes": (10,),
}

TINY = {
    "asm_steps": (0, 20),
    "seed": (0,),
    "preset": ("tiny",),
    "updates": (4,),
    "evaluations": (2,),
    "episodes": (1,),
}

SWEEP = Sweep(
    name="pretraining-length",
    description="How long should the action structure model be pretrained?",
    space=SPACE,
    tiny=TINY,
)
