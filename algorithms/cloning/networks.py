"""The networks that are cloned, and the fields of a preset that each depends on.

Methods that start from the same network share its clone: its address in the store has the network's name and sizes and
nothing of the method, the objective or other fields of the preset.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from spin_rl.algorithms.asm.model import ASMSizes
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.policies.autoregressive import AutoregressivePolicy
from spin_rl.algorithms.policies.factored import FactoredPolicy
from spin_rl.algorithms.policies.slots import SlotPolicy
from spin_rl.algorithms.presets import Preset, get_preset
from spin_rl.errors import unknown_name


class ClonedNetwork(NamedTuple):
    """A network that is cloned."""

    build: Callable[[int, Sequence[int], Preset], Policy]
    sizes: tuple[str, ...]  # the fields of the preset that it depends on


NETWORKS: Mapping[str, ClonedNetwork] = {
    "factored": ClonedNetwork(FactoredPolicy.from_preset, ("policy_width", "policy_dropout")),
    "factored-wide": ClonedNetwork(FactoredPolicy.wide_from_preset, ("asm", "policy_dropout")),
    "saint": ClonedNetwork(SlotPolicy.from_preset, ("asm",)),
    "autoregressive": ClonedNetwork(
        AutoregressivePolicy.from_preset, ("lstm_width", "lstm_state_width", "lstm_token_width")
    ),
}
"""Networks by name."""


def get_network(name: str) -> ClonedNetwork:
    """The network called ``name``; UserError with the list of all where there is none."""
    if name not in NETWORKS:
        raise unknown_name("cloned network", name, NETWORKS)
    return NETWORKS[name]


def sizes_of(network: str, preset: Preset) -> dict[str, Any]:
    """The fields of ``preset`` that a network depends on, as plain values."""
    values = {name: getattr(preset, name) for name in get_network(network).sizes}
    return {name: asdict(value) if isinstance(value, ASMSizes) else value for name, value in values.items()}


def only_sizes(network: str, preset: Preset) -> Preset:
    """The paper's preset with the fields of ``preset`` that a network depends on: equal where the networks are."""
    values = {name: getattr(preset, name) for name in get_network(network).sizes}
    if "policy_dropout" in values and values["policy_dropout"] is None:  # the objective's own, and there is none yet
        values["policy_dropout"] = 0.1
    return get_preset("paper", **values)
