"""What RLlib and Tune can do with the algorithms: several learners, evaluation beside training, reuse, failures."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from ray import tune
from ray.exceptions import RayError
from safetensors.torch import load_file
from test_evaluator import assert_ends, process_of

from spin_rl.algorithms.rllib import OfflineConfig, register_algorithms
from spin_rl.algorithms.rllib.algorithm import ANY_METHOD
from spin_rl.algorithms.training.agent import build_objective
from spin_rl.algorithms.training.checkpoints import load_policy
from spin_rl.platform.results.callback import ResultsCallback
from tests.algorithms.rllib_runs import EVERY, configure, numbers, plain_loop
from tests.algorithms.toy_agent import assert_same_bits

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def without_dropout(config: OfflineConfig) -> OfflineConfig:
    return config.training(network={"policy_dropout": 0.0})


def assert_close(result: dict, expected: dict) -> None:
    assert result["train"] == pytest.approx(expected["train"], rel=1e-4)


def test_two_learners_share_the_work_of_one_and_resume_to_the_same_bits(small_data, tmp_path):
    config = without_dropout(configure("factored", small_data)).learners(num_learners=2)
    agent, expected = plain_loop(config.copy(copy_frozen=False), 3)
    algorithm = config.build_algo()
    results = [numbers(algorithm.train()) for _ in range(3)]
    for result, other in zip(results[1:], expected[1:], strict=True):
        assert_close(result, other)
    assert results[0]["eval"] == expected[0]["eval"]
    weights = algorithm.get_module().objective.state_dict()
    for name, value in agent.objective.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)

    # with dropout, each learner draws from a generator of its own
    algorithm.learner_group.foreach_learner(
        lambda learner: (
            [setattr(part, "p", 0.1) for part in learner.agents[0].policy.modules() if hasattr(part, "p")] and 0
        )
    )
    for _ in range(2):  # the updates of these may have been made before
        algorithm.train()
    folder = Path(algorithm.save_to_path(tmp_path / "two"))
    tensors = load_file(folder / "learner.safetensors")
    assert not torch.equal(tensors["random.cpu"], tensors["learner1.random.cpu"])
    undisturbed = [numbers(algorithm.train()) for _ in range(2)]
    algorithm.restore_from_path(folder)
    assert [numbers(algorithm.train()) for _ in range(2)] == undisturbed

    # the one does not wait for ever for the other
    _, second = (result.get() for result in algorithm.learner_group.foreach_learner(lambda _: os.getpid()))
    os.kill(second, signal.SIGKILL)
    with pytest.raises((RayError, RuntimeError)):
        algorithm.train()
    algorithm.stop()


def test_overlapped_evaluation_changes_no_number_and_no_checkpoint(small_data, tmp_path):
    config = configure("factored", small_data).resources(num_cpus_for_main_process=2)
    assert config.overlaps_evaluation
    assert config.training_threads == 1
    agent, expected = plain_loop(config.copy(copy_frozen=False), 5)
    state = agent.state()[0]
    algorithm = config.build_algo()
    results, folders = [], []
    for number in range(5):
        results.append(numbers(algorithm.train()))
        folders.append(Path(algorithm.save_to_path(tmp_path / str(number))))
    assert results == expected
    for name, value in state.items():
        assert torch.equal(load_file(folders[-1] / "learner.safetensors")[name], value), name
    # the first checkpoint was written after later updates had been made, and is of none of them
    untrained = plain_loop(config.copy(copy_frozen=False), 1)[0].objective.state_dict()
    assert all(torch.equal(v, untrained[name]) for name, v in load_policy_and_critics(folders[0]).items())

    # a reused algorithm is a new one, but for its evaluator
    other = configure("saint", small_data).resources(num_cpus_for_main_process=2).debugging(seed=8)
    evaluator = algorithm._overlap.evaluator
    process = process_of(evaluator)
    assert algorithm.reset({**other.to_dict(), "method_name": "saint"})
    assert [numbers(algorithm.train()) for _ in range(3)] == plain_loop(other, 3)[1]
    assert algorithm._overlap.evaluator is evaluator
    algorithm.restore_from_path(algorithm.save_to_path(tmp_path / "saint"))
    assert numbers(algorithm.train()) == plain_loop(other, 4)[1][-1]
    algorithm.stop()
    assert_ends(process)


def test_evaluating_and_acting_between_iterations_change_no_later_number(small_data):
    config = configure("factored", small_data).resources(num_cpus_for_main_process=2)
    _, expected = plain_loop(config.copy(copy_frozen=False), 4)
    untrained = build_objective(config.settings.agent_spec())
    algorithm = config.evaluation(evaluation_interval=3).build_algo()
    assert numbers(algorithm.train()) == expected[0]
    learner = algorithm.learner_group._learner
    while learner.updates_ahead() < EVERY:
        learner.train_ahead(EVERY)
    evaluated = algorithm.evaluate()
    assert evaluated["return_mean"] == evaluated["env_runners"]["episode_return_mean"]
    assert {**evaluated, "updates": 0} == {**expected[0]["eval"], "env_runners": evaluated["env_runners"]}
    assert_same_bits(algorithm.get_module().objective.state_dict(), untrained.state_dict())
    results = [algorithm.train() for _ in range(3)]
    assert [numbers(result) for result in results] == expected[1:]
    again = results[1]["evaluation"]  # RLlib's, every third iteration
    assert again["return_mean"] == expected[2]["eval"]["return_mean"]
    assert "evaluation" not in results[0]
    algorithm.stop()


def load_policy_and_critics(folder: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(folder / "learner.safetensors")
    return {name.removeprefix("networks."): v for name, v in tensors.items() if name.startswith("networks.")}


def test_seeds_of_one_trial_are_trials_of_one_seed(small_data, tmp_path):
    config = configure("factored", small_data).training(seeds_per_trial=2)
    alone = [plain_loop(config.copy(copy_frozen=False).debugging(seed=seed), 3) for seed in (5, 6)]
    algorithm = config.build_algo()
    results = [algorithm.train() for _ in range(2)]
    folder = Path(algorithm.save_to_path(tmp_path / "both"))
    results.append(algorithm.train())
    for number, result in enumerate(results):
        for seed, (_, rows) in zip((5, 6), alone, strict=True):
            assert result["eval"][f"seed{seed}"] == pytest.approx(rows[number]["eval"], rel=1e-3)
            assert result.get("train", {}).get(f"seed{seed}", {}) == pytest.approx(rows[number]["train"], rel=1e-3)
    means = [result["eval"]["return_mean"] for result in results]
    assert means == [(r["eval"]["seed5"]["return_mean"] + r["eval"]["seed6"]["return_mean"]) / 2 for r in results]
    algorithm.restore_from_path(folder)
    again = algorithm.train()
    assert numbers(again) == numbers(results[-1])
    policy = load_policy(folder / "seed6")
    agent, _ = plain_loop(config.copy(copy_frozen=False).debugging(seed=6), 2)
    observation = torch.randn(5, 17)
    assert torch.equal(
        policy.decide(observation, None, sample=False), agent.policy.eval().decide(observation, None, sample=False)
    )
    algorithm.stop()


def test_trials_in_a_reused_process_are_fresh_ones_and_one_that_diverges_is_not_repeated(small_data, tmp_path):
    register_algorithms()
    base = configure("factored", small_data).resources(num_cpus_for_main_process=2).to_dict()
    trials = [
        {"algorithm": "saint", "seed": 5},
        {"algorithm": "factored", "seed": 6},
        {"algorithm": "factored", "seed": 7, "lr": 1e30},
    ]
    results = tune.Tuner(
        ANY_METHOD,
        param_space={**base, "trial": tune.grid_search([{**trial, "updates": 2 * EVERY} for trial in trials])},
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            name="tune",
            stop={"updates": 2 * EVERY},
            callbacks=[ResultsCallback(tmp_path, lambda trial: dict(trial.config["trial"]))],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=1, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=3),
            verbose=0,
        ),
    ).fit()
    *good, diverged = results
    assert len({result.metrics["pid"] for result in good}) == 1
    for result, trial in zip(good, trials, strict=False):
        config = configure(trial["algorithm"], small_data).debugging(seed=trial["seed"])
        agent, expected = plain_loop(config, 3)
        assert numbers(result.metrics) == expected[-1]
        tensors = load_file(Path(result.checkpoint.path) / "learner.safetensors")
        assert all(torch.equal(tensors[f"networks.{name}"], v) for name, v in agent.objective.state_dict().items())

    records = [json.loads(path.read_text()) for path in tmp_path.glob("trials/*/trial.json")]
    (record,) = [record for record in records if record["params"]["seed"] == 7]
    assert (record["state"], record["starts"]) == ("failed", 1)
    assert re.search(r"DivergedError: \w+_loss became (nan|inf) in update [1-4]; ", record["error"])
    policy = load_policy(Path(diverged.checkpoint.path))
    assert all(bool(value.isfinite().all()) for value in policy.state_dict().values())
