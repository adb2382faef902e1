"""Several seeds of one training at once: their networks as one, each with its own minibatches and random numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spin_rl.algorithms.agent import AgentSpec, OfflineAgent, read_means
from spin_rl.algorithms.asm import ActionStructureModel
from spin_rl.algorithms.batches import DeviceTransitions, draw_indices
from spin_rl.algorithms.features import FeatureStorage
from spin_rl.algorithms.policies import CachedPolicy
from spin_rl.algorithms.stacked import stack
from spin_rl.algorithms.updates import make_updates
from spin_rl.envs import UserError
from spin_rl.envs.optimizer_state import load_optimizer_tensors, optimizer_tensors

State = tuple[dict[str, Tensor], dict[str, Any]]


class SeedsAgent:
    """n seeds of a spec, trained in one batched computation.

    ``agents`` are n ordinary agents whose networks are views of the common ones: they act and are evaluated as they
    stand, and what ``states`` gives for each is an ordinary agent's state, from which either kind goes on. Results are
    those of n trainings one by one, up to rounding; dropout too draws what it would draw there (on a GPU it does not).
    """

    def __init__(
        self,
        spec: AgentSpec,
        seeds: Sequence[int],
        device: torch.device | None = None,
        asm: ActionStructureModel | None = None,
    ) -> None:
        """
        Args:
            spec: what to build; its own seed does not count.
            seeds: of each training.
            device: where they lie; the CPU by default.
            asm: the pretrained model that all of them start from, for a method that uses one.
        """
        check_seeds(spec, seeds)
        self.seeds = tuple(seeds)
        self.agents = [OfflineAgent(replace(spec, seed=seed), device, asm) for seed in seeds]
        self.device = self.agents[0].device
        self.updates = 0
        self._generators = [torch.Generator().manual_seed(seed + 1) for seed in seeds]  # as an agent alone does
        self.objective = stack([agent.objective for agent in self.agents], self._generators)
        self.objective.policy.seeds = len(seeds)
        self.objective.make_optimizers()
        for step in self.objective.optimizers.values():
            step.stacked = True

    def prepare(self, data: DeviceTransitions, storage: FeatureStorage | None = None) -> float:
        """As ``OfflineAgent.prepare`` does for each seed; features that all of them share are computed once."""
        cached = isinstance(self.agents[0].policy, CachedPolicy)
        return sum(agent.prepare(data, storage) for agent in (self.agents[:1] if cached else self.agents))

    def train(self, data: DeviceTransitions, updates: int) -> list[dict[str, float]]:
        """Make ``updates`` updates of every seed; returns the mean of each logged value over them, by seed.

        Raises:
            DivergedError: a loss was not finite.
        """
        self.prepare(data)
        self.objective.train()
        spec = self.agents[0].spec

        def draw(first: int, count: int) -> Tensor:
            minibatches = (count, spec.batch_size, data.size, self.device)
            return torch.stack([draw_indices(seed, 0, first, *minibatches) for seed in self.seeds], 1)  # (K, n, B)

        table = self.agents[0].table
        names, values = make_updates(self.objective, data, draw, self.updates, updates, table)
        self.updates += updates
        by_seed = values.cpu().unbind(-1)
        return [
            read_means(names, part, self.updates, f" of seed {s}") for s, part in zip(self.seeds, by_seed, strict=True)
        ]

    def states(self) -> list[State]:
        """Of each seed, what ``OfflineAgent.state`` gives."""
        return [self._state(index) for index in range(len(self.seeds))]

    def _state(self, index: int) -> State:
        tensors = {f"networks.{name}": value for name, value in self.agents[index].objective.state_dict().items()}
        for name, step in self.objective.optimizers.items():
            for key, value in optimizer_tensors(step.optimizer, f"optimizers.{name}.").items():
                tensors[key] = value[index] if value.dim() else value  # the count of steps is one for all
        tensors["random.cpu"] = self._generators[index].get_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return {name: value.detach().clone() for name, value in tensors.items()}, {"updates": self.updates}

    def load_states(self, states: Sequence[tuple[Mapping[str, Tensor], Mapping[str, Any]]]) -> None:
        """Go on from where each of ``states`` was taken, all of them after as many updates."""
        for agent, generator, (tensors, values) in zip(self.agents, self._generators, states, strict=True):
            agent.load_state(tensors, values)
            generator.set_state(tensors["random.cpu"].cpu())
        first = states[0][0]
        for name, step in self.objective.optimizers.items():
            prefix = f"optimizers.{name}."
            together = {
                key: torch.stack([tensors[key] for tensors, _ in states]) if value.dim() else value
                for key, value in first.items()
                if key.startswith(prefix)
            }
            load_optimizer_tensors(step.optimizer, together, prefix)
        self.updates = self.agents[0].updates


def check_seeds(spec: AgentSpec, seeds: Sequence[int]) -> None:
    """UserError where these seeds cannot be trained at once."""
    if len(seeds) < 1 or len(set(seeds)) < len(seeds):
        raise UserError(f"The seeds {list(seeds)} of one training must be different ones, and at least one.")
    if spec.algorithm == "autoregressive" and spec.objective.name != "iql":
        raise UserError(
            f"Several seeds of autoregressive are trained at once with iql only, not with {spec.objective.name}, which "
            "samples joint actions from the policy: train one seed at a time, or a policy that factorises."
        )
