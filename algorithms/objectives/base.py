"""What every objective has: settings, networks, optimiser steps, and how it acts."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.data.batches import Batch, DeviceTransitions
from spin_rl.algorithms.data.features import FeatureStorage
from spin_rl.algorithms.networks.critics import FactoredCritic
from spin_rl.algorithms.networks.precision import autocast, check_precision
from spin_rl.algorithms.objectives.gradient_step import DECAYS, GradientStep
from spin_rl.algorithms.objectives.losses import REGRESSIONS, Info, critic_loss
from spin_rl.algorithms.policies.base import Policy, Preparation
from spin_rl.algorithms.presets import Preset
from spin_rl.errors import UserError, unknown_name


@dataclass(frozen=True)
class ObjectiveSettings:
    """Settings of every objective (SPEC.md section 4).

    Attributes:
        learning_rate: of the first update.
        lr_decay: how it decays to 0 over ``lr_decay_updates``: ``linear``, ``cosine``, or not at all: ``constant``.
        gradient_clip: largest norm of all gradients of a network (policy, critics or value) together; None: no limit.
        precision: of the networks' matrix products in training: ``float32``, ``tf32`` (on a GPU) or ``bfloat16``.
    """

    name: ClassVar[str]

    learning_rate: float = 3e-4
    lr_decay: str = "constant"
    lr_decay_updates: int | None = None
    gradient_clip: float | None = None
    precision: str = "float32"
    gamma: float = 0.99
    target_rate: float = 0.005
    critic_width: int = 256
    critics: int = 2

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.lr_decay not in DECAYS:
            raise unknown_name("decay of the learning rate", self.lr_decay, DECAYS)
        if self.lr_decay != "constant" and (self.lr_decay_updates is None or self.lr_decay_updates < 1):
            raise UserError(
                f"lr_decay={self.lr_decay} lets the learning rate fall to 0, lr_decay_updates={self.lr_decay_updates} "
                "does not say over how many updates: give their number, or lr_decay=constant."
            )
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise UserError(f"gradient_clip={self.gradient_clip} is not positive; null does not clip.")

    @property
    def decays_rate(self) -> bool:
        """Whether the learning rate changes from update to update."""
        return self.lr_decay != "constant"

    @property
    def draws_minibatches(self) -> bool:
        """Whether the objective draws its minibatches itself, by what it has learnt; learners cannot share those."""
        return False

    def rate_multiplier(self, updates: int) -> float:
        """Learning-rate multiplier of the update after the first ``updates``."""
        done = min(updates / self.lr_decay_updates, 1.0) if self.lr_decay_updates else 0.0
        return DECAYS[self.lr_decay](done)


class Objective(nn.Module):
    """What is trained: networks, their losses, and how they act.

    A subclass makes its networks in ``__init__``, and implements ``make_optimizers``, ``update``, ``draws`` and
    ``decide``; ``PolicyObjective`` does the last two for objectives that train a policy. Losses count dimensions from
    the last where several seeds may be trained at once (``stackable``), which adds a first one.
    """

    settings_class: ClassVar[type[ObjectiveSettings]]
    needs_policy: ClassVar[bool] = False
    """Whether it trains a policy, which a method builds; without one the method has none either."""
    sampled: ClassVar[bool] = False
    """Whether evaluation samples actions by default."""
    any_actions: ClassVar[bool] = True
    """Whether it can be used in any action space; otherwise ``check_actions`` says in which."""
    policy_dropout: ClassVar[float] = 0.1
    """Dropout of the factored policy by default."""
    decomposition: str = "sum"
    """How the critics make Q(s, a) of the Q_i(s, a_i): ``sum`` or ``mean``."""
    regression: str = "squared"
    """What the critics' temporal-difference errors cost: ``squared`` or ``huber``."""

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: ObjectiveSettings
    ) -> None:
        super().__init__()
        self.observation_size = observation_size
        self.nvec = tuple(nvec)
        self.settings = settings
        self.policy = policy
        self.optimizers: dict[str, GradientStep] = {}

    def new_critic(self) -> FactoredCritic:
        """A critic ensemble as settings and objective want it."""
        return FactoredCritic(
            self.observation_size, self.nvec, self.settings.critic_width, self.settings.critics, self.decomposition
        )

    @classmethod
    def width(cls, preset: Preset) -> int:
        """Width of the critics' hidden layers: the ``critic_width`` of its settings."""
        return preset.critic_width

    @classmethod
    def check_actions(cls, nvec: Sequence[int]) -> None:
        """UserError where it cannot be used in an action space ``nvec``; only with ``any_actions`` False."""

    @property
    def stackable(self) -> bool:
        """Whether several seeds can be trained as one network (``spin_rl.algorithms.training.seeds``)."""
        return False

    @property
    def capturable(self) -> bool:
        """Whether an update can be captured as a CUDA graph: kernels alone, the same ones every time."""
        return False

    @property
    def prepares_once(self) -> bool:
        """Whether ``prepare`` gives the same for every seed of one pretrained model."""
        return False

    def start_from(self, model: nn.Module) -> None:
        """Copy what the method takes from a pretrained model, which fits its spaces and sizes."""
        raise NotImplementedError(f"{type(self).__name__} starts from no pretrained model.")

    def prepare(
        self, data: DeviceTransitions, asm: ActionStructureModel | None, storage: FeatureStorage, seed: int
    ) -> Preparation:
        """Do what the method does once with its dataset before the first update; see ``Policy.prepare``.

        Results that training and acting need later, such as a normalisation, belong into buffers: they are part of
        checkpoints, and a restored objective is prepared again on the same data.
        """
        return Preparation()

    def make_optimizers(self) -> None:
        """Fill ``optimizers``; called once the modules lie on their device."""
        raise NotImplementedError

    def gradient_step(self, *networks: Iterable[nn.Parameter], weight_decay: float = 0.0) -> GradientStep:
        """An optimiser of ``networks``, as the settings and the policy want it."""
        return GradientStep(
            *networks,
            learning_rate=self.settings.learning_rate,
            own_rates=self.policy.own_rates() if self.policy else None,
            clip=self.settings.gradient_clip,
            weight_decay=weight_decay,
        )

    def autocast(self) -> AbstractContextManager[object]:
        """The context of the forward passes between two optimiser steps, as the precision wants it."""
        return autocast(self.settings.precision, next(self.parameters()).device)

    def update(self, batch: Batch) -> Info:
        """One update, in the order of SPEC.md section 4."""
        raise NotImplementedError

    def critic_loss(self, q_EB: Tensor, batch: Batch, next_v_B: Tensor) -> tuple[Tensor, Info]:
        """``critic_loss`` of Q(s, a) to the value of the next state, with the objective's regression."""
        return critic_loss(
            q_EB, batch.reward, batch.terminated, next_v_B, self.settings.gamma, REGRESSIONS[self.regression]
        )

    def draws(self, *, sample: bool) -> int:
        """Uniform random numbers that ``decide`` needs for one observation."""
        raise NotImplementedError

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        """Joint actions (B, N) for observations (B, S).

        Args:
            observation: (B, S).
            uniforms: (B, draws) in [0, 1), float64; None where there are no draws.
            sample: sample the actions; otherwise choose the best that the objective knows.
        """
        raise NotImplementedError
