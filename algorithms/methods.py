"""The methods that are compared: each an entry that says how its policy is built and how it is listed and drawn.

A method without a policy network (value decomposition) has no ``build``: its objective acts by itself. RLlib classes,
settings, help and reports are made from these entries, so a new method is its own file and one entry here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spin_rl.algorithms.asm.model import TRUNK_SIZES
from spin_rl.algorithms.objectives import OBJECTIVES
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.policies.autoregressive import AutoregressivePolicy
from spin_rl.algorithms.policies.cached import CachedPolicy
from spin_rl.algorithms.policies.distilled import DistilledPolicy
from spin_rl.algorithms.policies.factored import FactoredPolicy
from spin_rl.algorithms.policies.slots import SlotPolicy
from spin_rl.algorithms.presets import Preset
from spin_rl.errors import UserError, unknown_name


class Look(NamedTuple):
    """How a method is drawn; ``line`` and ``marker`` as Matplotlib takes them."""

    color: str
    line: str | tuple[float, tuple[float, ...]]
    marker: str


POLICY_OBJECTIVES = tuple(name for name, objective in OBJECTIVES.items() if objective.needs_policy)
"""The objectives that train a policy, which any policy can be trained with."""

ASM_SIZES = (*TRUNK_SIZES, "head_width")
"""The sizes (fields of ``Preset.asm``) of the policies that are built like an action structure model."""


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: what users type: the ``algorithm`` of a trial.
        label: what tables and legends show.
        class_name: what the RLlib classes are called: ``SPIN`` and ``SPINConfig``.
        description: one sentence, for help texts and docstrings.
        build: makes the policy from (observation size, nvec, preset); None for a method without a policy network.
        objectives: names of the objectives it can be trained with; the first is the default.
        pretrained: the kind of model it starts from: ``asm`` or None.
        look: how it is drawn.
        settings: settings that only this method and others that list them have.
        sizes: sizes of the action structure model that its networks have too.
        constant_features: whether its policy reads features that do not change in training, so that a trunk's dropout
            cannot be a part of them.
    """

    name: str
    label: str
    class_name: str
    description: str
    build: Callable[[int, Sequence[int], Preset], Policy] | None
    look: Look
    objectives: tuple[str, ...] = POLICY_OBJECTIVES
    pretrained: str | None = None
    settings: frozenset[str] = frozenset()
    sizes: tuple[str, ...] = ()
    constant_features: bool = False

    @property
    def uses_asm(self) -> bool:
        """Whether it starts from a pretrained action structure model."""
        return self.pretrained == "asm"

    def check_objective(self, objective: str) -> None:
        """UserError where it cannot be trained with ``objective``."""
        if objective not in self.objectives:
            raise UserError(
                f"{self.name} is trained with {' or '.join(self.objectives)}, not with {objective}: "
                "change the objective or the algorithm."
            )


# In the order in which tables and legends list them. The colours are Okabe and Ito's, without the yellow, which paper
# does not show.
METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            "spin",
            "SPIN",
            "SPIN",
            "SPIN (arXiv 2601.04441): light heads and queries on a frozen, pretrained action structure model.",
            SlotPolicy.from_preset,
            Look("#0072B2", "-", "o"),
            pretrained="asm",
            sizes=ASM_SIZES,
        ),
        Method(
            "spin-distill",
            "SPIN-Distill",
            "SPINDistill",
            "SPIN with a student without attention in place of the trunk.",
            DistilledPolicy.from_preset,
            Look("#56B4E9", (0, (8, 2)), "v"),
            pretrained="asm",
            sizes=ASM_SIZES,
            constant_features=True,
        ),
        Method(
            "spin-cached",
            "SPIN-Cached",
            "SPINCached",
            "SPIN on features that are computed once for the whole dataset.",
            CachedPolicy.from_preset,
            Look("#CC79A7", (0, (3, 1)), "P"),
            pretrained="asm",
            settings=frozenset({"feature_dtype", "feature_memory_gib"}),
            sizes=ASM_SIZES,
            constant_features=True,
        ),
        Method(
            "finetune",
            "SPIN (finetuned)",
            "Finetune",
            "SPIN whose state encoder and trunk train too, at a learning rate of their own.",
            SlotPolicy.finetuned_from_preset,
            Look("#E69F00", (0, (2, 1)), "X"),
            pretrained="asm",
            sizes=ASM_SIZES,
        ),
        Method(
            "saint",
            "SAINT",
            "Saint",
            "SAINT (arXiv 2505.12109): SPIN's network, trained from scratch.",
            SlotPolicy.from_preset,
            Look("#D55E00", (0, (5, 1.5)), "s"),
            sizes=ASM_SIZES,
        ),
        Method(
            "factored",
            "Factored",
            "Factored",
            "The factored baseline: an MLP with independent heads.",
            FactoredPolicy.from_preset,
            Look("#444444", (0, (1.2, 1.2)), "^"),
        ),
        Method(
            "autoregressive",
            "Autoregressive",
            "Autoregressive",
            "The autoregressive baseline: an LSTM over sub-actions.",
            AutoregressivePolicy.from_preset,
            Look("#009E73", (0, (5, 1.5, 1.2, 1.5)), "D"),
        ),
        Method(
            "fas",
            "FAS",
            "FAS",
            "FAS (Tang et al. 2022): BCQ with an additive critic and one loss for critic and clone; no policy network.",
            None,
            Look("#999933", (0, (1, 2.5)), "d"),
            objectives=("fas",),
        ),
        Method(
            "brave",
            "BraVE",
            "BraVE",
            "BraVE (arXiv 2410.21151): values of branches in the tree of the data's joint actions; no policy network.",
            None,
            Look("#661100", (0, (6, 1, 1, 1, 1, 1)), "*"),
            objectives=("brave",),
        ),
    )
}

METHOD_SETTINGS = frozenset(name for method in METHODS.values() for name in method.settings)
"""Settings that only some methods have."""


def get_method(name: str) -> Method:
    """The method called ``name``; UserError with the list of all where there is none."""
    if name not in METHODS:
        raise unknown_name("algorithm", name, METHODS)
    return METHODS[name]
