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
from spin_rl.algorithms.policies.bpr import BPRPolicy
from spin_rl.algorithms.policies.cached import CachedPolicy
from spin_rl.algorithms.policies.distilled import DistilledPolicy
from spin_rl.algorithms.policies.factored import FactoredPolicy
from spin_rl.algorithms.policies.film import FilmPolicy
from spin_rl.algorithms.policies.masked import MaskedPolicy, check_passes
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
        pretrained: the kind of model it starts from: ``asm``, ``bc`` (a clone) or None.
        look: how it is drawn.
        settings: settings that only this method and others that list them have.
        sizes: sizes of the action structure model that its networks have too.
        cloned: the network whose clone it starts from (``cloning.networks.NETWORKS``), where it starts from one.
        check: raises UserError where its policy cannot be built for (nvec, preset); None where any can.
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
    check: Callable[[Sequence[int], Preset], None] | None = None
    constant_features: bool = False
    cloned: str = ""

    @property
    def uses_asm(self) -> bool:
        """Whether it starts from a pretrained action structure model."""
        return self.pretrained == "asm"

    @property
    def uses_clone(self) -> bool:
        """Whether it starts from a clone of a policy's network."""
        return self.pretrained == "bc"

    def check_objective(self, objective: str) -> None:
        """UserError where it cannot be trained with ``objective``."""
        if objective not in self.objectives:
            raise UserError(
                f"{self.name} is trained with {' or '.join(self.objectives)}, not with {objective}: "
                "change the objective or the algorithm."
            )


# In the order in which tables and legends list them. The colours are Okabe and Ito's, without the yellow, which paper
# does not show; those of value decomposition are Paul Tol's muted ones.
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
            "spin-decode",
            "SPIN-Decode",
            "SPINDecode",
            "The action structure model itself as the policy, decoded in several passes: it can hold two joint modes.",
            MaskedPolicy.from_preset,
            Look("#332288", (0, (4, 1, 1, 1)), "p"),
            pretrained="asm",
            sizes=ASM_SIZES,
            check=check_passes,
        ),
        Method(
            "saint",
            "SAINT",
            "Saint",
            "The SPIN paper's controlled variant of SAINT: SPIN's network, trained from scratch.",
            SlotPolicy.from_preset,
            Look("#D55E00", (0, (5, 1.5)), "s"),
            sizes=ASM_SIZES,
        ),
        Method(
            "saint-film",
            "SAINT-FiLM",
            "SaintFilm",
            "SAINT as its authors define it (arXiv 2505.12109), at their sizes: no state token, FiLM, post-LayerNorm.",
            FilmPolicy.from_preset,
            Look("#882255", (0, (6, 1.5, 2, 1.5)), "<"),
        ),
        Method(
            "saint-film-matched",
            "SAINT-FiLM (matched)",
            "SaintFilmMatched",
            "SAINT as its authors define it, with width, attention heads and blocks of SPIN's trunk.",
            FilmPolicy.matched_from_preset,
            Look("#AA4499", (0, (6, 1.5, 2, 1.5)), ">"),
            sizes=("width", "heads", "layers"),
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
            "factored-bc",
            "Factored (cloned)",
            "FactoredBC",
            "The factored baseline, cloned on the dataset before all of it trains.",
            FactoredPolicy.from_preset,
            Look("#444444", "-", "<"),
            pretrained="bc",
            cloned="factored",
        ),
        Method(
            "bpr",
            "BPR",
            "BPR",
            "BPR (arXiv 2211.00863): light heads on the frozen encoder of a cloned factored policy.",
            BPRPolicy.from_preset,
            Look("#882255", (0, (6, 1.5)), ">"),
            pretrained="bc",
            sizes=("head_width",),
            cloned="factored",
        ),
        Method(
            "bpr-wide",
            "BPR (wide)",
            "BPRWide",
            "BPR whose cloned policy has as many parameters as SPIN's pretrained model.",
            BPRPolicy.wide_from_preset,
            Look("#AA4499", (0, (1.5, 1.5)), "p"),
            pretrained="bc",
            sizes=ASM_SIZES,
            cloned="factored-wide",
        ),
        Method(
            "saint-bc",
            "SAINT (cloned)",
            "SaintBC",
            "SAINT, cloned on the dataset before all of it trains.",
            SlotPolicy.from_preset,
            Look("#D55E00", "-", "h"),
            pretrained="bc",
            sizes=ASM_SIZES,
            cloned="saint",
        ),
        Method(
            "autoregressive-bc",
            "Autoregressive (cloned)",
            "AutoregressiveBC",
            "The autoregressive baseline, cloned on the dataset before all of it trains.",
            AutoregressivePolicy.from_preset,
            Look("#009E73", "-", "d"),
            pretrained="bc",
            cloned="autoregressive",
        ),
        Method(
            "decqn",
            "DecQN",
            "DecQN",
            "DecQN (arXiv 2210.12566) offline: decomposed Q-learning without a correction.",
            None,
            Look("#999999", "-", "<"),
            objectives=("decqn",),
        ),
        Method(
            "decqn-bcq",
            "DecQN-BCQ",
            "DecQNBCQ",
            "DecQN whose maxima are over choices that a clone of the behaviour admits (arXiv 2411.11088).",
            None,
            Look("#8C564B", (0, (6, 2)), ">"),
            objectives=("decqn-bcq",),
        ),
        Method(
            "decqn-cql",
            "DecQN-CQL",
            "DecQNCQL",
            "DecQN with a conservative penalty on each sub-action's utilities (arXiv 2411.11088).",
            None,
            Look("#332288", (0, (4, 1)), "p"),
            objectives=("decqn-cql",),
        ),
        Method(
            "decqn-iql",
            "DecQN-IQL",
            "DecQNIQL",
            "DecQN whose target is an implicitly learned value (arXiv 2411.11088).",
            None,
            Look("#E377C2", (0, (7, 1, 1, 1)), "h"),
            objectives=("decqn-iql",),
        ),
        Method(
            "decqn-onestep",
            "DecQN-OneStep",
            "DecQNOneStep",
            "DecQN that values a clone of the behaviour and improves on it once (arXiv 2411.11088).",
            None,
            Look("#117733", (0, (3, 2, 1, 2)), "*"),
            objectives=("decqn-onestep",),
        ),
        Method(
            "factorised-bc",
            "Factorised BC",
            "FactorisedBC",
            "A clone of the behaviour alone, with independent sub-actions (arXiv 2411.11088).",
            None,
            Look("#661100", (0, (1, 2)), "d"),
            objectives=("factorised-bc",),
        ),
        Method(
            "dqn-cql",
            "DQN-CQL",
            "DQNCQL",
            "A value for every joint action, with a conservative penalty: a reference in small action spaces.",
            None,
            Look("#6699CC", (0, (2, 2)), "8"),
            objectives=("dqn-cql",),
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
            Look("#44AA99", (0, (6, 1, 1, 1, 1, 1)), "*"),
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
