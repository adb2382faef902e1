"""The evaluating actor: the same result as without it, errors that say so, nothing left behind."""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict

import psutil
import pytest
import ray
import torch

from spin_rl.algorithms.evaluation.evaluator import EvaluationRequest, Snapshot, evaluate_objective
from spin_rl.algorithms.objectives import IQLSettings
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.rllib.evaluator import Evaluator, Place
from spin_rl.algorithms.training.agent import AgentSpec, build_objective

SPECS = [AgentSpec("factored", 17, (3,) * 6, get_preset("tiny"), IQLSettings(), seed=seed) for seed in range(2)]
REQUEST = EvaluationRequest("cheetah-run", 3, episodes=1, sample=True)


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def snapshot(spec: AgentSpec) -> Snapshot:
    return Snapshot(spec, build_objective(spec).state_dict())


def process_of(evaluator: Evaluator) -> int:
    return ray.get(evaluator.actor.__ray_call__.remote(lambda _: os.getpid()))


def assert_ends(process: int) -> None:
    deadline = time.monotonic() + 60
    while psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the evaluating process is still there"
        time.sleep(0.1)


@pytest.mark.integration
def test_an_actor_evaluates_as_one_does_oneself_says_what_failed_and_ends_with_its_owner(cluster):
    evaluator = Evaluator(Place.here())
    evaluator.start([snapshot(spec) for spec in SPECS], REQUEST)
    expected = [asdict(evaluate_objective(build_objective(spec), REQUEST)) for spec in SPECS]
    assert evaluator.results() == expected
    assert expected[0] != expected[1]

    evaluator.start([snapshot(SPECS[0])], EvaluationRequest("fish-swim", 3, episodes=1, sample=False))
    with pytest.raises(RuntimeError, match="The evaluation failed"):
        evaluator.results()

    # it is needed where trials have taken every CPU, and is busy when its training is killed
    @ray.remote(num_cpus=1)
    class Training:
        def begin(self, snapshot: Snapshot, request: EvaluationRequest) -> int:
            self.evaluator = Evaluator(Place.here())
            process = ray.get(self.evaluator.actor.__ray_call__.remote(lambda _: os.getpid()))
            self.evaluator.start([snapshot], request)
            return process

    training = Training.remote()
    endless = REQUEST._replace(episodes=100_000)
    process = ray.get(training.begin.remote(snapshot(SPECS[0]), endless), timeout=60)
    ray.kill(training)
    assert_ends(process)

    process = process_of(evaluator)
    evaluator.start([snapshot(SPECS[0])], endless)
    assert not evaluator.done()
    evaluator.close()
    assert_ends(process)


def test_a_snapshot_is_built_without_touching_the_random_state():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    built = Snapshot(SPECS[1], build_objective(SPECS[0]).state_dict())
    torch.set_rng_state(before)
    objective = built.objective()
    assert torch.equal(torch.get_rng_state(), before)
    assert not objective.training
    assert all(torch.equal(objective.state_dict()[name], value) for name, value in built.networks.items())


def test_one_thread_evaluates_however_many_train(monkeypatch):
    objective = build_objective(SPECS[0])
    threads, decide = set(), objective.decide

    def watched(*args, **kwargs):
        threads.add(torch.get_num_threads())
        return decide(*args, **kwargs)

    monkeypatch.setattr(objective, "decide", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        evaluate_objective(objective, REQUEST)
        assert threads == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
