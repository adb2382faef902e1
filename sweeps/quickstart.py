"""The main job in a quarter of an hour on two cores: SPIN and its baselines on cheetah-run medium-expert."""

from pathlib import Path

from spin_rl.platform.datasets import OfflineDataset
from spin_rl.sweeps.planning.evaluations import evaluation_interval
from spin_rl.sweeps.planning.models import asm_config
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.planning.training import training_plan

TASK, LEVEL, SIZE = "cheetah-run", "medium-expert", 200_000
ALGORITHMS = ("spin", "saint", "factored", "autoregressive")
PRESET = "small"
SEEDS = (0, 1)
ASM_STEPS = 3_000
UPDATES = 3_000
EVALUATIONS = 6
EPISODES = 5


def quickstart_plan(
    dataset: OfflineDataset,
    root: str,
    asm_root: Path,
    *,
    seeds: tuple[int, ...] = SEEDS,
    asm_steps: int = ASM_STEPS,
    updates: int = UPDATES,
    preset: str = PRESET,
    episodes: int = EPISODES,
) -> SweepPlan:
    """SPIN and baselines with IQL for the same number of updates; SPIN's model is pretrained for each seed.

    Raises:
        UserError: the updates cannot be divided so that the last evaluation comes at the end.
    """
    meta = dataset.meta
    plan = training_plan(
        name="quickstart",
        description=(
            f"SPIN, SAINT, factored and autoregressive policies with IQL on {meta.key}: "
            f"{updates:,} policy updates, {asm_steps:,} pretraining steps, preset {preset}, {len(seeds)} seeds."
        ),
        algorithms=ALGORITHMS,
        objective="iql",
        task=meta.task,
        level=meta.level,
        bins=meta.bins,
        version=meta.version,
        root=root,
        asm_root=asm_root,
        pretraining={seed: asm_config(preset, seed) for seed in seeds},
        asm_steps=asm_steps,
        preset=preset,
        updates=updates,
        evaluate_every=evaluation_interval(updates, min(EVALUATIONS, updates)),
        episodes=episodes,
    )
    given = (seeds, asm_steps, updates, preset, episodes, len(dataset))
    standard = given == (SEEDS, ASM_STEPS, UPDATES, PRESET, EPISODES, SIZE)
    return plan if standard else plan.named_by_content("quickstart")
