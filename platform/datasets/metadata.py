"""The metadata of a dataset: ``metadata.json``, written last, so that a folder without it is not a dataset."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spin_rl.errors import UserError

SCHEMA = 1
"""Version of the format; increased when old readers would misread new files."""


@dataclass(frozen=True)
class Behaviour:
    """One of the policies that collected a dataset, and its returns there."""

    name: str  # random, medium, expert, or the level of an import
    policy: str  # description
    policy_digest: str  # of its weights; empty if it has none
    epsilon: float
    episodes: int
    transitions: int
    return_mean: float
    return_std: float


@dataclass(frozen=True)
class Part:
    """One Parquet file; it holds whole episodes."""

    file: str
    rows: int
    digest: str  # of the content


@dataclass(frozen=True)
class Returns:
    """Distribution of the episodes' undiscounted returns."""

    mean: float
    std: float
    minimum: float
    q05: float
    q25: float
    median: float
    q75: float
    q95: float
    maximum: float

    @classmethod
    def of(cls, returns: NDArray[np.float64]) -> "Returns":
        quantiles = np.quantile(returns, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
        return cls(float(returns.mean()), float(returns.std()), *(float(value) for value in quantiles))


@dataclass(frozen=True)
class DatasetMetadata:
    """Identity, size, origin and content digest of a dataset."""

    schema: int
    task: str
    bins: int
    level: str
    version: int
    nvec: tuple[int, ...]
    observation_size: int
    transitions: int
    episodes: int
    requested_size: int
    seed: int
    behaviours: tuple[Behaviour, ...]
    returns: Returns
    reference_random: float | None
    reference_expert: float | None
    versions: dict[str, str]
    created: str
    parts: tuple[Part, ...]
    digest: str

    @property
    def key(self) -> str:
        """``cheetah-run-3/medium-expert-v1``."""
        return f"{self.task}-{self.bins}/{self.level}-v{self.version}"

    @property
    def rows(self) -> int:
        """An episode of T steps is T + 1 rows."""
        return self.transitions + self.episodes

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that are part of the digest, besides the content."""
        return {
            "schema": self.schema,
            "task": self.task,
            "bins": self.bins,
            "nvec": list(self.nvec),
            "observation_size": self.observation_size,
        }

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str, where: str) -> "DatasetMetadata":
        """Read what ``to_json`` wrote.

        Raises:
            UserError: not such a file, or one of another format; the message names ``where``.
        """
        try:
            content = json.loads(text)
            if content["schema"] != SCHEMA:
                raise UserError(
                    f"{where} has format {content['schema']}, but this version reads format {SCHEMA}; update spin-rl."
                )
            known = {field.name for field in fields(cls)}
            content = {name: value for name, value in content.items() if name in known}
            content["nvec"] = tuple(int(choices) for choices in content["nvec"])
            content["behaviours"] = tuple(Behaviour(**behaviour) for behaviour in content["behaviours"])
            content["parts"] = tuple(Part(**part) for part in content["parts"])
            content["returns"] = Returns(**content["returns"])
            metadata = cls(**content)
            sizes = (
                metadata.bins,
                metadata.version,
                metadata.observation_size,
                metadata.transitions,
                metadata.episodes,
            )
            if not all(isinstance(size, int) and size > 0 for size in sizes) or not metadata.parts:
                raise ValueError("sizes must be positive")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{where} is damaged ({error}); delete this dataset's folder and make it again.") from error
        return metadata
