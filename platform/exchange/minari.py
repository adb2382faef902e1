"""Minari datasets with Discrete or MultiDiscrete actions and flat observations; ``minari`` is an optional package."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from numpy.typing import NDArray

from spin_rl.errors import UserError
from spin_rl.platform.datasets.reader import OfflineDataset
from spin_rl.platform.exchange.transitions import Source, Transitions


def read(name: str, source: Source, *, on_progress: Callable[[int, int], None] | None = None) -> Iterator[Transitions]:
    """The transitions of an installed Minari dataset.

    Args:
        name: its Minari id, such as ``cheetah-run/medium-v0``.
        source: name of the dataset, and the spaces that it must have.
        on_progress: called with the episodes read so far and the total.

    Raises:
        UserError: no such dataset, other spaces, or invalid values; the message names the episode and the step.
    """
    dataset = _load(name)
    start = _first_choice(dataset.action_space, source)
    for number, episode in enumerate(dataset.iterate_episodes()):
        steps = len(episode.rewards)
        observations = np.asarray(episode.observations)
        if observations.dtype.kind not in "biuf":
            raise UserError(f"{name}: observations are not arrays of numbers; flatten them first.")
        yield source._replace(name=f"{name}, episode {episode.id}").batch(
            np.arange(steps),
            observation=observations[:-1],
            action=np.asarray(episode.actions).reshape(steps, -1) - start,
            reward=episode.rewards,
            next_observation=observations[1:],
            terminated=episode.terminations,
            ended=np.arange(steps) == steps - 1,
        )
        if on_progress:
            on_progress(number + 1, dataset.total_episodes)


def write(dataset: OfflineDataset, name: str, *, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Write a dataset as a new local Minari dataset with the id ``name``.

    Raises:
        UserError: Minari is not installed, or already has a dataset with this id.
    """
    minari = _minari()
    metadata = dataset.metadata
    buffers = []
    for number in range(metadata.episodes):
        rows = dataset.transitions[slice(*dataset.episode_offsets[number : number + 2])]
        terminations = dataset.terminated[rows]
        truncations = np.zeros(len(rows), bool)
        truncations[-1] = not terminations[-1]
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=number,
                observations=dataset.observations[rows[0] : rows[-1] + 2],
                actions=dataset.actions[rows].astype(np.int64),
                rewards=dataset.rewards[rows],
                terminations=terminations,
                truncations=truncations,
                infos={},
            )
        )
        if on_progress:
            on_progress(number + 1, metadata.episodes)
    if name in minari.list_local_datasets():
        raise UserError(f"There is already a Minari dataset {name}; choose another name.")
    with warnings.catch_warnings(action="ignore"):  # about missing e-mail, environment and permalink
        minari.create_dataset_from_buffers(
            name,
            buffers,
            observation_space=Box(-np.inf, np.inf, (metadata.observation_size,), np.float32),
            action_space=MultiDiscrete(list(metadata.nvec)),
            algorithm_name=", ".join(behaviour.policy for behaviour in metadata.behaviours),
            description=f"{metadata.key}, digest {metadata.digest}",
            author="spin-rl",
            ref_min_score=metadata.reference_random,
            ref_max_score=metadata.reference_expert,
        )


def _load(name: str) -> Any:
    minari = _minari()
    try:
        return minari.load_dataset(name)
    except (FileNotFoundError, ValueError) as error:
        local = ", ".join(minari.list_local_datasets()) or "none"
        raise UserError(
            f"There is no Minari dataset {name} on this machine (there is: {local}); download it with: "
            f"minari download {name}"
        ) from error


def _first_choice(space: Any, source: Source) -> NDArray[np.int64]:
    """The lowest value (N,) of each sub-action."""
    if isinstance(space, Discrete):
        nvec, start = [int(space.n)], np.array([space.start])
    elif isinstance(space, MultiDiscrete) and space.nvec.ndim == 1:
        nvec, start = [int(n) for n in space.nvec], space.start.astype(np.int64)
    else:
        raise UserError(f"{source.name} has actions in {space}; only Discrete and MultiDiscrete ones can be imported.")
    if nvec != list(source.nvec):
        raise UserError(f"{source.name} has nvec {nvec}, but its task has {list(source.nvec)}.")
    return start


def _minari() -> Any:
    try:
        import minari  # optional
    except ImportError as error:
        raise UserError("Minari is not installed; install it with: pip install 'spin-rl[minari]'") from error
    return minari
