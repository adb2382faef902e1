"""Short runs of the RLlib algorithms, and the same made by the plain loop."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.cloning.files import load_clone
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.rllib import ALGORITHMS, OfflineConfig
from spin_rl.algorithms.training.agent import OfflineAgent
from spin_rl.envs import get_task
from spin_rl.platform.datasets import open_dataset
from spin_rl.platform.evaluation.episodes import evaluate

CPU = torch.device("cpu")
TASK = get_task("cheetah-run")
EVERY = 4  # updates of an iteration; every second one evaluates


def configure(method: str, data: Path, model: str | None = None) -> OfflineConfig:
    config = ALGORITHMS[method].get_default_config()
    return (
        config.environment(TASK.gym_id)
        .offline_data(input_=[f"{data}/cheetah-run-3/medium-expert-v1"])
        .training(
            preset="tiny",
            asm=model if get_method(method).uses_asm else None,
            clone=model if get_method(method).uses_clone else None,
            updates_per_iteration=EVERY,
            evaluate_every=2 * EVERY,
            evaluation_episodes=2,
            train_batch_size_per_learner=32,
        )
        .debugging(seed=5, log_level="ERROR")
    )


def plain_loop(config: OfflineConfig, iterations: int) -> tuple[OfflineAgent, list[dict[str, dict[str, float]]]]:
    """What the algorithm reports, made without RLlib and without Ray."""
    spec = config.settings.agent_spec()
    model = load_asm(Path(config.asm)) if config.asm else load_clone(Path(config.clone)) if config.clone else None
    agent = OfflineAgent(spec, asm=model)
    data = DeviceTransitions(open_dataset(TASK.name, "medium-expert", root=config_root(config)), CPU)
    agent.prepare(data)
    results, evaluation, losses = [], {}, {}
    for iteration in range(iterations):
        if iteration:
            losses = agent.train(data, EVERY)
        if iteration % 2 == 0:
            result = evaluate(TASK, ActingPolicy(agent.objective, CPU, sample=agent.objective.sampled), episodes=2)
            evaluation = {**asdict(result), "updates": agent.updates}
        results.append({"eval": evaluation, "train": losses, "updates": agent.updates})
    return agent, results


def config_root(config: OfflineConfig) -> Path:
    return Path(config.input_[0]).parents[1]


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    return {"eval": result["eval"], "train": result.get("train", {}), "updates": result["updates"]}
