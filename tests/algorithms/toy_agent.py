"""Tiny agents on the toy's spaces."""

from pathlib import Path

import torch
from torch import Tensor

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.methods import METHODS, get_method
from spin_rl.algorithms.objectives import IQLSettings
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent

OBSERVATION, NVEC = 3, (3, 2, 4)

PAIRS = [(method.name, objective) for method in METHODS.values() for objective in method.objectives]
"""Every method with every objective that it can be trained with."""

POLICY_METHODS = [method.name for method in METHODS.values() if method.build]
"""The methods that have a policy network."""


def agent_spec(algorithm: str, *, seed: int = 0, trunk_dropout: bool = True) -> AgentSpec:
    preset = get_preset("tiny", trunk_dropout=trunk_dropout)
    return AgentSpec(algorithm, OBSERVATION, NVEC, preset, IQLSettings(critic_width=16), 16, seed)


def make_agent(algorithm: str, asm_folder: Path, **changes: object) -> OfflineAgent:
    """An agent; with the model in ``asm_folder`` where its method uses one."""
    asm = load_asm(asm_folder) if get_method(algorithm).uses_asm else None
    return OfflineAgent(agent_spec(algorithm, **changes), asm=asm)


def random_batch(count: int, dtype: torch.dtype = torch.float32) -> Batch:
    return Batch(
        observation=torch.randn(count, OBSERVATION, dtype=dtype),
        action=(torch.rand(count, len(NVEC)) * torch.tensor(NVEC)).long(),
        reward=torch.randn(count, dtype=dtype),
        terminated=(torch.rand(count) < 0.3).to(dtype),
        next_observation=torch.randn(count, OBSERVATION, dtype=dtype),
    )


def assert_same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
