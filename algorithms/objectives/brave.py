"""BraVE, branch value estimation (Landers et al., NeurIPS 2025, arXiv 2410.21151), for sub-actions of any size.

One network values a joint action and the branches below it, and decisions walk down the tree of the joint actions that
the data have. It has no policy: it acts by beam search.
Shapes: B states, N sub-actions, K = sum(nvec_i - 1) slots.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.data.batches import Batch, DeviceTransitions
from spin_rl.algorithms.data.features import FeatureStorage
from spin_rl.algorithms.networks.layers import mlp, precise
from spin_rl.algorithms.objectives.action_tree import ActionTree
from spin_rl.algorithms.objectives.base import Objective, ObjectiveSettings
from spin_rl.algorithms.objectives.branch_loss import branch_loss, branch_values, code_target, paper_target, td_loss
from spin_rl.algorithms.objectives.losses import Info
from spin_rl.algorithms.objectives.periodic_target import PeriodicTarget
from spin_rl.algorithms.objectives.prioritised import Priorities
from spin_rl.algorithms.objectives.tree_search import beam, greedy
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.policies.base import Preparation
from spin_rl.errors import UserError, unknown_name

TARGETS = ("paper", "code")
WEIGHTINGS = ("power", "linear")
AVERAGES = ("sample", "terms")


@dataclass(frozen=True)
class BraVESettings(ObjectiveSettings):
    """Settings of BraVE. The published ones are these with a learning rate of 2.5e-4, gamma 0.9 and minibatches of 128.

    What is None is as ``target`` has it, whose default is ``code``: the published results were made with it. Depths,
    ``td_weight`` and the beam have several published values; these defaults lie in the range that the paper calls
    stable.

    Attributes:
        target: the temporal-difference target as the ``paper`` has it, with the traversal by the target network, or as
            its public ``code`` has, with the traversal by the online one.
        value_weight: lambda, the weight of values against the distance to the behaviour's next joint action.
        mask_terminal: a terminal state has no value; by default only with the paper's target.
        depth_penalty: delta of the branch loss, by which terms further from the joint action weigh more or less.
        depth_weighting: at the j-th parent delta^j (``power``, the paper's) or delta j (``linear``, the code's).
        average: terms by ``sample``, divided by its depth (the paper's), or over all ``terms`` (the code's).
        replaces_value: a parent's best value is taken with the target in place of the branch's old value (the paper's),
            or with both (the code's).
        backs_up_unseen: a parent's best value counts its own where the data do not have that joint action.
        td_weight: alpha, the weight of the temporal-difference loss at the joint action itself.
        hidden_layers: hidden layers of the network.
        beam_width: nodes that beam search keeps in evaluation; 0 walks greedily.
        target_every: updates between copies of the target network; 0: it moves at target_rate after every update.
        rate_decay: factor of the learning rate from one update to the next.
        prioritised: draw transitions by their last temporal-difference errors, and not uniformly.
    """

    name = "brave"

    target: str = "code"
    value_weight: float = 0.5
    mask_terminal: bool | None = None
    depth_penalty: float = 1.0
    depth_weighting: str | None = None
    average: str | None = None
    replaces_value: bool | None = None
    backs_up_unseen: bool = True
    td_weight: float = 10.0
    hidden_layers: int = 3
    beam_width: int = 10
    target_every: int = 50
    rate_decay: float = 0.99995
    prioritised: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for what, value, known in (
            ("target of BraVE", self.target, TARGETS),
            ("weighting of depths", self.depth_weighting or "power", WEIGHTINGS),
            ("average", self.average or "terms", AVERAGES),
        ):
            if value not in known:
                raise unknown_name(what, value, known)
        if self.hidden_layers < 1 or self.beam_width < 0 or self.target_every < 0:
            raise UserError(
                f"hidden_layers={self.hidden_layers} must be at least 1, beam_width={self.beam_width} and "
                f"target_every={self.target_every} at least 0."
            )
        if not 0 < self.rate_decay <= 1:
            raise UserError(f"rate_decay={self.rate_decay} must lie in (0, 1]; 1 keeps the learning rate.")

    @property
    def decays_rate(self) -> bool:
        return super().decays_rate or self.rate_decay != 1.0

    @property
    def draws_minibatches(self) -> bool:
        return self.prioritised

    def rate_multiplier(self, updates: int) -> float:
        return super().rate_multiplier(updates) * self.rate_decay**updates


class BranchNetwork(nn.Module):
    """Observations (B, S) and encoded joint actions (B, K) to [q, v_1, ..., v_K] (B, 1 + K)."""

    def __init__(self, observation_size: int, slots: int, width: int, hidden_layers: int) -> None:
        super().__init__()
        self.net = mlp((observation_size + slots, *[width] * hidden_layers, 1 + slots))

    def forward(self, observation: Tensor, bits: Tensor) -> Tensor:
        values: Tensor = self.net(torch.cat([observation, bits], -1))
        return precise(values)


class BraVE(Objective):
    """The network, its target copy, the tree of the data's joint actions, and their update."""

    settings_class = BraVESettings
    settings: BraVESettings
    scale: Tensor

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: BraVESettings
    ) -> None:
        super().__init__(policy, observation_size, nvec, settings)
        if max(nvec) < 2:
            raise UserError("BraVE needs a sub-action with at least two choices: there is only one joint action.")
        self.tree = ActionTree(nvec)
        self.network, self.target_network = (
            BranchNetwork(observation_size, self.tree.slots, settings.critic_width, settings.hidden_layers)
            for _ in range(2)
        )
        self.target = PeriodicTarget(self.network, self.target_network, settings.target_every, settings.target_rate)
        self.priorities = Priorities()
        self.register_buffer("scale", torch.tensor([max(1, n - 1) for n in nvec]), persistent=False)
        self._paper = settings.target == "paper"
        self._data: DeviceTransitions | None = None
        self._starts = torch.empty(0, dtype=torch.bool)  # whether a row starts a transition: has a joint action

    def prepare(
        self, data: DeviceTransitions, asm: ActionStructureModel | None, storage: FeatureStorage, seed: int
    ) -> Preparation:
        started = time.perf_counter()
        self._data = data
        self._starts = torch.zeros(len(data.observations), dtype=torch.bool, device=data.device)
        self._starts[data.rows.long()] = True
        self.tree.build(data.actions_at(data.rows.long()))
        if self.settings.prioritised:
            self.priorities.prepare(data.size)
        return Preparation(time.perf_counter() - started)

    def make_optimizers(self) -> None:
        self.optimizers = {"network": self.gradient_step(self.network.parameters())}

    def update(self, batch: Batch) -> Info:
        """One update: the traversal at s' and the target that it gives, both losses, priorities, target network."""
        settings, data, indices = self.settings, self._data, None
        assert data is not None
        if settings.prioritised:
            indices = self.priorities.draw(len(batch.reward))
            batch = data.gather(indices)
        with self.autocast():
            with torch.no_grad():
                target_B = self.target_values(batch, data)
            values = branch_values(self.network, self.tree, batch.observation, self.tree.encode(batch.action))
        branch, info = branch_loss(
            values,
            target_B,
            delta=settings.depth_penalty,
            weighting=settings.depth_weighting or ("power" if self._paper else "linear"),
            average=settings.average or ("sample" if self._paper else "terms"),
            replaces=self._paper if settings.replaces_value is None else settings.replaces_value,
            backs_up_unseen=settings.backs_up_unseen,
        )
        td, td_info = td_loss(values.q, target_B)
        self.optimizers["network"](branch + settings.td_weight * td)
        if indices is not None:
            self.priorities.set(indices, values.q - target_B)
        self.target.update()
        return info | td_info

    def target_values(self, batch: Batch, data: DeviceTransitions) -> Tensor:
        """Y (B,) of transitions."""
        settings = self.settings
        assert batch.rows is not None
        bits = greedy(self.target_network if self._paper else self.network, self.tree, batch.next_observation)
        next_q_B = self.target_network(batch.next_observation, bits)[:, 0]
        # the row that follows the last transition of an episode has no joint action
        known_B = self._starts[batch.rows + 1] & (batch.terminated == 0)
        difference_BN = (self.tree.decode(bits) - data.actions_at(batch.rows + 1)) / self.scale
        difference_BN = difference_BN * known_B[:, None]
        masked = self._paper if settings.mask_terminal is None else settings.mask_terminal
        goes_on_B = 1.0 - batch.terminated if masked else torch.ones_like(batch.terminated)
        weights = (settings.gamma, settings.value_weight)
        if self._paper:
            return paper_target(batch.reward, goes_on_B, next_q_B, difference_BN, *weights)
        return code_target(batch.reward, goes_on_B, batch.terminated, next_q_B, difference_BN, *weights)

    def draws(self, *, sample: bool) -> int:
        return 0

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        """The joint actions of the data that beam search finds."""
        width = self.settings.beam_width
        bits = (
            beam(self.network, self.tree, observation, width) if width else greedy(self.network, self.tree, observation)
        )
        return self.tree.decode(bits)
