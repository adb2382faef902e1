"""Load trained networks from a checkpoint: without RLlib, without the dataset, and without running code from it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from spin_rl.algorithms.asm.files import first_line
from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.asm.model import ASMSizes
from spin_rl.algorithms.objectives import Objective, get_objective
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.presets import Preset
from spin_rl.algorithms.training.agent import AgentSpec, build_objective
from spin_rl.errors import UserError

_PREFIX = "networks."


def save_agent_spec(spec: AgentSpec, folder: Path) -> None:
    """Write the specification that the networks of a checkpoint are built from."""
    values = asdict(spec)
    values["objective"]["name"] = spec.objective.name
    (folder / "agent.json").write_text(json.dumps(values, indent=2))


def load_policy(folder: Path) -> Policy:
    """The trained policy of a checkpoint, in evaluation mode on the CPU.

    For evaluation use ``load_objective``: under BCQ the policy alone is only a clone of the behaviour.

    Raises:
        UserError: the folder is not a readable checkpoint, or that of a method without a policy.
    """
    objective = load_objective(folder)
    if objective.policy is None:
        raise UserError(f"{folder} is a checkpoint of {objective.settings.name}, which has no policy network.")
    return objective.policy


def load_objective(folder: Path) -> Objective:
    """The trained networks of a checkpoint, in evaluation mode on the CPU.

    Raises:
        UserError: the folder is not a readable checkpoint.
    """
    try:
        spec = _agent_spec(json.loads((folder / "agent.json").read_text()))
        objective = build_objective(spec)
        tensors = load_file(folder / "learner.safetensors")
        objective.load_state_dict({k.removeprefix(_PREFIX): v for k, v in tensors.items() if k.startswith(_PREFIX)})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} is not a checkpoint of a policy that can be read ({first_line(error)}).") from error
    return objective.eval()


def _agent_spec(values: Mapping[str, Any]) -> AgentSpec:
    preset, objective = values["preset"], dict(values["objective"])
    settings = get_objective(objective.pop("name")).settings_class
    return AgentSpec(
        **{
            **values,
            "nvec": tuple(values["nvec"]),
            "preset": Preset(**{**preset, "asm": ASMSizes(**preset["asm"]), "masking": Masking(**preset["masking"])}),
            "objective": settings(**objective),
        }
    )
