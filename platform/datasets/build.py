"""Writing a dataset: blocks of rows become parts, and metadata.json is written last."""

import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spin_rl.errors import UserError
from spin_rl.platform.datasets.metadata import SCHEMA, Behaviour, DatasetMetadata, Returns
from spin_rl.platform.datasets.parts import PartWriter
from spin_rl.platform.datasets.rows import Rows


class Origin(NamedTuple):
    """The policy that consecutive episodes of a dataset come from."""

    name: str
    policy: str  # description
    policy_digest: str
    epsilon: float


def build_dataset(
    folder: Path,
    content: Sequence[tuple[Origin, Iterable[Rows]]],
    *,
    task: str,
    bins: int,
    level: str,
    version: int,
    nvec: tuple[int, ...],
    observation_size: int,
    requested_size: int,
    seed: int,
    reference_random: float | None,
    reference_expert: float | None,
) -> DatasetMetadata:
    """Write a dataset into ``folder`` from blocks of whole episodes; ``DatasetRoot.publish`` moves it to its place.

    Args:
        folder: staging folder on this machine; its previous content is deleted.
        content: the policies, each with its rows in blocks of whole episodes.
        task: name of the task.
        bins: choices per action dimension.
        level: name of the level.
        version: of the dataset.
        nvec: choices per sub-action (N,).
        observation_size: length of an observation.
        requested_size: transitions asked for, 0 for an import.
        seed: of the collection, 0 for an import.
        reference_random: mean return of a random policy, if known.
        reference_expert: mean return of an expert policy, if known.

    Raises:
        UserError: a policy has no transitions.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spaces: dict[str, Any] = {"nvec": list(nvec), "observation_size": observation_size}
    behaviours: list[Behaviour] = []
    returns: list[np.ndarray] = []
    with PartWriter(folder, {"schema": SCHEMA, "task": task, "bins": bins, **spaces}) as writer:
        for origin, blocks in content:
            block_returns: list[np.ndarray] = []
            transitions = 0
            for rows in blocks:
                writer.add(rows.numbered_from(sum(len(array) for array in returns + block_returns)))
                block_returns.append(rows.returns())
                transitions += int(rows.lengths().sum())
            if not block_returns:
                raise UserError(f"{origin.policy}: there are no transitions.")
            policy_returns = np.concatenate(block_returns)
            returns.append(policy_returns)
            behaviours.append(
                Behaviour(
                    **origin._asdict(),
                    episodes=len(policy_returns),
                    transitions=transitions,
                    return_mean=float(policy_returns.mean()),
                    return_std=float(policy_returns.std()),
                )
            )
        digest = writer.finish()
    metadata = DatasetMetadata(
        schema=SCHEMA,
        task=task,
        bins=bins,
        level=level,
        version=version,
        nvec=nvec,
        observation_size=observation_size,
        transitions=sum(behaviour.transitions for behaviour in behaviours),
        episodes=sum(behaviour.episodes for behaviour in behaviours),
        requested_size=requested_size,
        seed=seed,
        behaviours=tuple(behaviours),
        returns=Returns.of(np.concatenate(returns)),
        reference_random=reference_random,
        reference_expert=reference_expert,
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        parts=tuple(writer.parts),
        digest=digest,
    )
    with (folder / "metadata.json").open("w") as file:
        file.write(metadata.to_json())
        file.flush()
        os.fsync(file.fileno())
    return metadata


def versions() -> dict[str, str]:
    """Versions of the packages that a dataset's content depends on."""
    return {name: installed(name) for name in ("spin-rl", "numpy", "torch", "mujoco", "dm_control", "pyarrow")}
