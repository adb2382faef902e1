"""How large the parts have to be: return and time against the width of the heads, the trunk's depth and its width."""

from spin_rl.sweeps.sweep import Sweep

SPACE = {
    "task": ("cheetah-run",),
    "bins": (3,),
    "level": ("medium-expert",),
    "algorithm": ("factored", "spin"),
    "objective": ("iql",),
    "head_width": (32, 128, 512),  # hidden width of a sub-action's head
    "layers": (1, 2, 3),  # depth of the trunk
    "width": (32, 64, 128),  # model width
    "asm_steps": (2000,),
    "seed": (0, 1, 2),
    "preset": ("small",),
    "updates": (10_000,),
    "evaluations": (20,),
    "episodes": (10,),
}

TINY = {
    "head_width": (8,),
    "layers": (1, 2),
    "width": (16,),
    "asm_steps": (20,),
    "seed": (0,),
    "preset": ("tiny",),
    "updates": (4,),
    "evaluations": (2,),
    "episodes": (1,),
}

SWEEP = Sweep(
    name="head-size",
    description="How wide must the heads be, how deep and how wide the model?",
    space=SPACE,
    tiny=TINY,
    one_at_a_time=("head_width", "layers", "width"),
)
