"""The methods as RLlib Algorithms, under a real Ray: the same bits as the plain loop, through saves, kills and Tune."""

import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core.rl_module.rl_module import RLModule
from safetensors.torch import load_file

from spin_rl.algorithms import rllib
from spin_rl.algorithms.asm.pretraining import ASMConfig
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained
from spin_rl.algorithms.rllib import ALGORITHMS, SPIN, SPINConfig, register_algorithms
from spin_rl.algorithms.training.checkpoints import load_objective, load_policy
from spin_rl.platform.asm_store.store import ASMStore
from spin_rl.platform.datasets import open_dataset
from spin_rl.sweeps.planning.models import clone_config
from tests.algorithms.rllib_runs import EVERY, TASK, configure, numbers, plain_loop

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def asm(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    dataset = open_dataset(TASK.name, "medium-expert", root=small_data)
    config = ASMConfig(sizes=get_preset("tiny").asm, batch_size=64)
    return ensure_pretrained(ASMStore(tmp_path_factory.mktemp("asm")), dataset, config, [20])[0].path


def clone_of(method: str, data: Path, folder: Path) -> str:
    dataset = open_dataset(TASK.name, "medium-expert", root=data)
    config = clone_config(method, get_preset("tiny"), 0, batch_size=64)
    return ensure_pretrained(ASMStore(folder), dataset, config, [20])[0].path


@pytest.mark.parametrize("method", ALGORITHMS)
def test_an_algorithm_is_the_plain_loop_and_goes_on_from_its_checkpoint(small_data, asm, tmp_path, method):
    cloned = get_method(method).uses_clone
    config = configure(method, small_data, clone_of(method, small_data, tmp_path) if cloned else asm)
    agent, expected = plain_loop(config.copy(copy_frozen=False), 4)
    algorithm = config.build_algo()
    results = [algorithm.train() for _ in range(2)]
    folder = Path(algorithm.save_to_path(tmp_path / "checkpoint"))
    results += [algorithm.train() for _ in range(2)]
    assert [numbers(result) for result in results] == expected
    tensors = algorithm.learner_group._learner.agent_states()[0][0]
    for name, value in agent.state()[0].items():
        assert torch.equal(tensors[name], value), name
    assert results[-1]["perf"]["updates_per_second"] > 0
    algorithm.stop()

    assert not list(folder.glob("*.pkl"))
    restored = ALGORITHMS[method].from_checkpoint(folder)
    again = [restored.train() for _ in range(2)]
    assert [numbers(result) for result in again] == expected[2:]
    tensors = restored.learner_group._learner.agent_states()[0][0]
    for name, value in agent.state()[0].items():
        assert torch.equal(tensors[name], value), name

    read = load_objective(Path(restored.save_to_path(tmp_path / "last")))
    observation = torch.randn(5, 17)
    action = read.decide(observation, None, sample=False)
    assert torch.equal(action, agent.objective.eval().decide(observation, None, sample=False))
    module = restored.get_module()
    assert torch.equal(module.forward_inference({"obs": observation})["actions"], action)
    assert module.forward_exploration({"obs": observation})["actions"].shape == (5, 6)
    restored.stop()


def test_rllibs_ways_to_save_and_restore_are_ours(small_data, tmp_path):
    algorithm = configure("factored", small_data).build_algo()
    algorithm.train()
    algorithm.train()
    folder = Path(algorithm.save_to_path())
    try:
        assert {path.suffix for path in folder.rglob("*")} == {".json", ".safetensors"}
        restored = Algorithm.from_checkpoint(str(folder))
    finally:
        shutil.rmtree(folder)
    assert type(restored) is ALGORITHMS["factored"]
    module = RLModule.from_checkpoint(algorithm.get_module().save_to_path(tmp_path / "module"))
    observation = torch.randn(5, 17)
    expected = algorithm.get_module().forward_inference({"obs": observation})["actions"]
    assert torch.equal(module.forward_inference({"obs": observation})["actions"], expected)
    algorithm.stop()
    restored.stop()
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="does not seem to be valid"):
        Algorithm.from_checkpoint(str(tmp_path / "other"))


def test_classes_are_found_by_their_names():
    for name, algorithm in ALGORITHMS.items():
        for made in (algorithm, algorithm.config_class):
            assert pickle.loads(pickle.dumps(made)) is made
            assert getattr(rllib, made.__name__) is made
            assert made.__name__ in rllib.__all__
        assert pickle.loads(pickle.dumps(algorithm.get_default_config())).settings.method_name == name


def test_the_learner_freezes_what_the_checkpoint_holds(small_data, asm):
    algorithm = configure("spin", small_data, asm).build_algo()
    try:
        for _ in range(3):
            algorithm.train()
        learner = algorithm.learner_group._learner
        policy = learner.module["default_policy"].unwrapped().objective.policy
        assert policy is learner.agents[0].policy
        stored = load_file(Path(asm) / "model.safetensors")
        mine = dict(policy.named_parameters())
        shared = [name for name in stored if name.startswith(("trunk.", "state_encoder."))]
        assert len(shared) == 16
        for name in shared:
            assert torch.equal(mine[name], stored[name]), name
            assert not mine[name].requires_grad
        assert {name for name in mine if mine[name].requires_grad} == {name for name in mine if name not in shared}
        result = algorithm.train()
        assert result["time"]["pretrain_seconds"] > 0
        assert result["time"]["total_seconds"] == pytest.approx(
            result["time"]["pretrain_seconds"] + result["time"]["train_seconds"]
        )
    finally:
        algorithm.stop()


class KillOnce(tune.Callback):
    """Kills the worker of a trial when it reports a number of updates for the first time."""

    def __init__(self, updates: int) -> None:
        self.updates = updates
        self.killed: list[int] = []
        self.results: list[dict[str, Any]] = []

    def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
        self.results.append(numbers(result))
        if result["updates"] == self.updates and not self.killed:
            self.killed.append(result["pid"])
            os.kill(result["pid"], signal.SIGKILL)


def test_a_trial_whose_worker_is_killed_ends_with_the_numbers_of_an_undisturbed_one(small_data, asm, tmp_path):
    config = configure("spin", small_data, asm)
    assert isinstance(config, SPINConfig)
    _, expected = plain_loop(config.copy(copy_frozen=False), 6)
    register_algorithms()
    killer = KillOnce(3 * EVERY)
    tuner = tune.Tuner(
        SPIN.__name__,
        param_space=config,
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            name="killed",
            stop={"updates": 5 * EVERY},
            callbacks=[killer],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=1, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=1),
            verbose=0,
        ),
    )
    (result,) = tuner.fit()
    assert result.error is None
    assert len(killer.killed) == 1
    assert result.metrics["pid"] != killer.killed[0]
    assert numbers(result.metrics) == expected[-1]
    last = {reported["updates"]: reported for reported in killer.results}
    assert list(last.values()) == expected
    assert len(killer.results) < 2 * len(expected) - 1  # it went on from a checkpoint, not from the start
    policy = load_policy(Path(result.checkpoint.path))
    assert policy.nvec == (3,) * 6
