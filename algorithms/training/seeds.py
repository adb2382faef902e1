"""Several seeds of one training at once: their networks as one, each with its own minibatches and random numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.data.features import FeatureStorage, FeatureTable
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.networks.stacked import stack
from spin_rl.algorithms.objectives import get_objective
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent, build_objective, read_means
from spin_rl.algorithms.training.updates import Draw, UpdateLoop
from spin_rl.errors import UserError
from spin_rl.optimizer_state import load_optimizer_tensors, optimizer_tensors

State = tuple[dict[str, Tensor], dict[str, Any]]


class SeedsAgent:
    """n seeds of a spec, trained in one batched computation.

    ``agents`` are n ordinary agents with networks that are views of the common ones: they act and are evaluated as
    usual, and ``states`` gives an ordinary agent's state for each, from which either kind resumes. Results are those of
    n trainings one by one, up to rounding; on a CPU even dropout draws what it would draw there.
    """

    def __init__(
        self,
        spec: AgentSpec,
        seeds: Sequence[int],
        device: torch.device | None = None,
        asm: ActionStructureModel | Policy | None = None,
    ) -> None:
        """
        Args:
            spec: what to build; its own seed is not used.
            seeds: of each training.
            device: where they lie; the CPU by default.
            asm: the pretrained model that all of them start from, for a method that starts from one.

        Raises:
            UserError: these seeds cannot be trained at once.
        """
        check_seeds(spec, seeds)
        self.seeds = tuple(seeds)
        self.agents = [OfflineAgent(replace(spec, seed=seed), device, asm) for seed in seeds]
        self.device = self.agents[0].device
        self.updates = 0
        self._generators = [torch.Generator().manual_seed(seed + 1) for seed in seeds]  # as an agent alone does
        self.objective = stack([agent.objective for agent in self.agents], self._generators)
        self.objective.make_optimizers()
        for step in self.objective.optimizers.values():
            step.stacked = True
        self._loop = UpdateLoop(self.objective, cuda_graph=spec.cuda_graph, onednn=spec.onednn)

    def prepare(self, data: DeviceTransitions, storage: FeatureStorage | None = None) -> float:
        """As ``OfflineAgent.prepare`` for each seed; what is the same for all of them is made once."""
        agents = self.agents[:1] if self.objective.prepares_once else self.agents
        seconds = sum(agent.prepare(data, storage) for agent in agents)
        for name, buffer in self.objective.named_buffers():  # not stacked: what is computed from the data is common
            buffer.copy_(self.agents[0].objective.get_buffer(name))
        return seconds

    def train(self, data: DeviceTransitions, updates: int) -> list[dict[str, float]]:
        """Make ``updates`` updates of every seed; returns the mean of each logged value over them, by seed.

        Raises:
            DivergedError: a loss was not finite.
        """
        self.prepare(data)
        self.objective.train()
        names, values = self._loop.run(data, self.draw_for(data), self.updates, updates, self.table)
        self.updates += updates
        by_seed = values.cpu().unbind(-1)
        return [
            read_means(names, part, self.updates, f" of seed {s}") for s, part in zip(self.seeds, by_seed, strict=True)
        ]

    @property
    def table(self) -> FeatureTable | None:
        """Features that all seeds share, where there are any."""
        return self.agents[0].table

    def draw_for(self, data: DeviceTransitions) -> Draw:
        """The function that draws the indices of every seed's minibatches from ``data``."""
        draws = [agent.draw_for(data) for agent in self.agents]
        return lambda first, count: torch.stack([draw(first, count) for draw in draws], 1)  # (K, n, B)

    def states(self) -> list[State]:
        """The state of each seed, as of ``OfflineAgent.state``."""
        return [self._state(index) for index in range(len(self.seeds))]

    def _state(self, index: int) -> State:
        tensors = {f"networks.{name}": value for name, value in self.agents[index].objective.state_dict().items()}
        for name, step in self.objective.optimizers.items():
            for key, value in optimizer_tensors(step.optimizer, f"optimizers.{name}.").items():
                tensors[key] = value[index] if value.dim() else value  # the count of steps is common to all
        tensors["random.cpu"] = self._generators[index].get_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return {name: value.detach().clone() for name, value in tensors.items()}, {"updates": self.updates}

    def load_states(self, states: Sequence[tuple[Mapping[str, Tensor], Mapping[str, Any]]]) -> None:
        """Resume from ``states``, one for each seed and all after the same number of updates."""
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
        self._loop.forget_graph()
        self.updates = self.agents[0].updates


def check_seeds(spec: AgentSpec, seeds: Sequence[int]) -> None:
    """UserError where these seeds cannot be trained at once."""
    if len(seeds) < 1 or len(set(seeds)) < len(seeds):
        raise UserError(f"The seeds {list(seeds)} of one training must be different ones, and at least one.")
    if not _stackable(spec):
        others = [name for name in get_method(spec.algorithm).objectives if _stackable(_with_objective(spec, name))]
        only = f" with {' and '.join(others)} only, not with {spec.objective.name}" if others else ""
        raise UserError(
            f"Several seeds of {spec.algorithm} are{'' if others else ' not'} trained at once{only}: train one seed at "
            "a time."
        )


def _stackable(spec: AgentSpec) -> bool:
    """Whether what ``spec`` builds can be stacked; leaves torch's generator alone."""
    with torch.random.fork_rng(devices=[]):
        return build_objective(spec).stackable


def _with_objective(spec: AgentSpec, name: str) -> AgentSpec:
    return replace(spec, objective=get_objective(name).settings_class())
