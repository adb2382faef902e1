"""The main job in a quarter of an hour on two cores: SPIN and its baselines on cheetah-run medium-expert."""

from pathlib import Path

from spin_rl.platform.common.identity import identity_key
from spin_rl.platform.datasets import OfflineDataset
from spin_rl.sweeps.planning.plan import SweepPlan, evaluation_interval, methods_plan
from spin_rl.sweeps.planning.sweep import asm_config

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
    """SPIN and baselines with IQL for the same number of updates, each seed of SPIN on a model pretrained with it.

    Raises:
        UserError: the updates cannot be divided so that the last evaluation comes at their end.
    """
    evaluate_every = evaluation_interval(updates, min(EVALUATIONS, updates))
    plan = methods_plan(
        name="quickstart",
        description=(
            f"SPIN, SAINT, factored and autoregressive policies with IQL on {dataset.meta.key}: "
            f"{updates:,} policy updates, {asm_steps:,} pretraining steps, preset {preset}, {len(seeds)} seeds."
        ),
        algorithms=ALGORITHMS,
        objective="iql",
        dataset=dataset,
        root=root,
        asm_root=asm_root,
        asm_configs={seed: asm_config({"preset": preset, "seed": seed}) for seed in seeds},
        preset=preset,
        updates=updates,
        evaluate_every=evaluate_every,
        updates_per_iteration=evaluate_every,
        evaluation_episodes=episodes,
        asm_steps=asm_steps,
    )
    given = (seeds, asm_steps, updates, preset, episodes, len(dataset))
    standard = given == (SEEDS, ASM_STEPS, UPDATES, PRESET, EPISODES, SIZE)
    return plan if standard else plan.named(f"quickstart-{identity_key({'trials': plan.trials})[:6]}")
