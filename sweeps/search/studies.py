"""Optuna studies that outlive the process that started them: their database, their names, their sampler.

A study in a relational database is the record of a search: which points were drawn and which values they have. Nothing
that Tune or a sampler keeps in memory is needed to continue it.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from spin_rl.errors import UserError
from spin_rl.platform.common.identity import identity_key

SearchSpace = Mapping[str, BaseDistribution]
"""What is searched over: a distribution for every parameter."""


def study_name(sweep: str, settings: Mapping[str, Any]) -> str:
    """A name that no other sweep or settings have, so that any number of studies can share a database."""
    return f"{sweep}-{identity_key({'sweep': sweep, **settings})}"


def study_key(name: str) -> str:
    """The beginning of the ids of a study's trials."""
    return identity_key({"study": name})[:5]


def study_url(given: str | None, storage: Path) -> URL:
    """The database of the studies: the one given, else a SQLite file in the storage.

    Raises:
        UserError: the text given is not the address of a database.
    """
    if not given:
        return URL.create("sqlite", database=str(storage.absolute() / "studies.db"))
    try:
        return make_url(given)
    except SQLAlchemyError:
        # the text may hold a password: neither it nor an error that quotes it is shown
        raise UserError(
            "The study storage is no address of a database; it looks like postgresql://USER@HOST/DATABASE or "
            "sqlite:////FOLDER/FILE."
        ) from None


def without_password(url: URL) -> str:
    """The address without secrets."""
    return url.set(query={}).render_as_string(hide_password=True)


def open_study(url: URL, name: str, directions: Sequence[str], sampler: BaseSampler) -> Study:
    """The study ``name`` in the database at ``url``; created if it does not exist.

    Raises:
        UserError: the database does not answer, or its driver is not installed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it logs every trial; the sweep's progress shows them
    engine: dict[str, Any] = {"pool_pre_ping": True}  # hours pass between two points: a connection may be lost
    with ExitStack() as stack:
        try:
            if url.get_backend_name() == "sqlite" and url.database:
                engine = {"connect_args": {"timeout": 60}}
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(f"{url.database}.lock"))
            storage = _open_storage(url, engine)
            return optuna.create_study(
                study_name=name, storage=storage, directions=directions, sampler=sampler, load_if_exists=True
            )
        except ImportError:
            raise UserError(
                f"The study storage {without_password(url)} needs a driver that is not installed; for PostgreSQL: "
                "pip install 'spin-rl[postgresql]'."
            ) from None
        except (SQLAlchemyError, optuna.exceptions.OptunaError, OSError) as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            if url.password:
                cause = cause.replace(str(url.password), "***")
            raise UserError(
                f"The study storage {without_password(url)} does not take the study ({cause}); start the database or "
                "name another."
            ) from None


def _open_storage(url: URL, engine: Mapping[str, Any], tries: int = 3) -> optuna.storages.RDBStorage:
    """Optuna's storage. Another process may create its tables at the same time: then the next attempt finds them."""
    while True:
        try:
            return optuna.storages.RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=dict(engine))
        except (IntegrityError, ProgrammingError):
            tries -= 1
            if not tries:
                raise
            time.sleep(1.0)


class RepeatableSampler(BaseSampler):
    """Optuna's TPE, with a seed of its own for every point.

    A point is a function of (seed, number of the point, values of the earlier ones). One sampler for all points would
    draw others after a restart, as its random state is not stored.

    Args:
        seed: the search's seed.
        startup: points drawn at random before TPE has enough to learn from.
    """

    def __init__(self, seed: int, startup: int = 10) -> None:
        self._seed, self._startup = seed, startup

    def _sampler(self, trial: FrozenTrial, parameter: str = "") -> TPESampler:
        # each parameter has its own, too: those drawn before a process was killed are not drawn again
        digest = hashlib.blake2b(f"{self._seed}/{trial.number}/{parameter}".encode(), digest_size=4).digest()
        # with the constant liar open points count as bad ones, so that points drawn at the same time differ
        return TPESampler(seed=int.from_bytes(digest, "little"), n_startup_trials=self._startup, constant_liar=True)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler(trial, param_name).sample_independent(study, trial, param_name, param_distribution)


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Any]:
    """The point of ``trial``: a value for every parameter, in the order of their names.

    Values that were drawn before come from the database, so that an interrupted draw is completed.
    """
    return {name: trial._suggest(name, space[name]) for name in sorted(space)}


def grid_of(space: SearchSpace, most: int) -> list[dict[str, Any]] | None:
    """Every point of the space if there are at most ``most``; None if there are more."""
    points: list[dict[str, Any]] = [{}]
    for name in sorted(space):
        values = _values(space[name], most)
        if values is None or len(points) * len(values) > most:
            return None
        points = [{**point, name: value} for point in points for value in values]
    return points


def _values(distribution: BaseDistribution, most: int) -> list[Any] | None:
    match distribution:
        case CategoricalDistribution():
            return list(distribution.choices)
        case IntDistribution() if not distribution.log:
            count = (distribution.high - distribution.low) // distribution.step + 1
            return [distribution.low + k * distribution.step for k in range(count)] if count <= most else None
        case FloatDistribution() if distribution.low == distribution.high:
            return [distribution.low]
    return None
