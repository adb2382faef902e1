"""What the learner's benchmarks share: agents on random data of a task's shape, and the time of their updates."""

import time
from collections.abc import Callable

import torch

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.data.features import FeatureTable
from spin_rl.algorithms.objectives import IQLSettings
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent

SHAPES = {"cheetah-run": (17, (3,) * 6), "dog-trot": (223, (3,) * 38)}
"""Observation size and nvec of tasks with three bins."""
BATCH, ROWS = 256, 4096
CPU = torch.device("cpu")


def make_spec(method: str, preset: str, task: str, *, precision: str = "float32", **network: object) -> AgentSpec:
    """IQL with ``method`` at the sizes of ``preset``, some of its fields changed."""
    sizes = get_preset(preset, **network)
    settings = IQLSettings(critic_width=sizes.critic_width, precision=precision)
    return AgentSpec(method, *SHAPES[task], sizes, settings, BATCH)


def make_asm(spec: AgentSpec) -> ActionStructureModel:
    """One that was never trained: it costs as much."""
    torch.manual_seed(0)
    return ActionStructureModel(spec.observation_size, spec.nvec, spec.preset.asm)


def make_agent(spec: AgentSpec) -> OfflineAgent:
    return OfflineAgent(spec, asm=make_asm(spec))


def random_batch(spec: AgentSpec) -> Batch:
    """A minibatch; for spin-cached with a table of features that it draws its rows from."""
    size, nvec = spec.observation_size, torch.tensor(spec.nvec)
    table = None
    if spec.algorithm == "spin-cached":
        table = FeatureTable(torch.randn(ROWS, len(nvec), spec.preset.asm.width), CPU, 0.0)
    return Batch(
        observation=torch.randn(BATCH, size),
        action=(torch.rand(BATCH, len(nvec)) * nvec).long(),
        reward=torch.randn(BATCH),
        terminated=torch.zeros(BATCH),
        next_observation=torch.randn(BATCH, size),
        rows=torch.randint(ROWS - 1, (BATCH,)),
        table=table,
    )


def update_timer(spec: AgentSpec, updates: int) -> Callable[[], float]:
    """What measures the processor seconds of one update, as the mean of so many."""
    agent, batch = make_agent(spec), random_batch(spec)
    agent.objective.train()

    def measure() -> float:
        started = time.process_time()
        for _ in range(updates):
            agent.objective.update(batch)
        return (time.process_time() - started) / updates

    return measure
