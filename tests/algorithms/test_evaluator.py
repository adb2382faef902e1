"""The evaluating process: the same result as without it, errors that say so, nothing left behind."""

import pytest
import torch

from spin_rl.algorithms.evaluation.evaluator import EvaluationProcess, EvaluationRequest, evaluate_objective
from spin_rl.algorithms.objectives import IQLSettings
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.training.agent import AgentSpec, build_objective

SPECS = [AgentSpec("factored", 17, (3,) * 6, get_preset("tiny"), IQLSettings(), seed=seed) for seed in range(2)]


@pytest.mark.integration
def test_a_process_evaluates_as_one_does_oneself_and_leaves_nothing_behind():
    objectives = [build_objective(spec) for spec in SPECS]
    networks = [{f"networks.{name}": v for name, v in each.state_dict().items()} for each in objectives]
    request = EvaluationRequest("cheetah-run", 3, episodes=1, sample=True)
    process = EvaluationProcess()
    process.start(list(zip(SPECS, networks, strict=True)), request)
    expected = [evaluate_objective(objective, request) for objective in objectives]
    assert process.results() == expected
    assert expected[0] != expected[1]

    process.start([(SPECS[0], networks[0])], EvaluationRequest("fish-swim", 3, episodes=1, sample=False))
    with pytest.raises(RuntimeError, match="The evaluation failed"):
        process.results()

    process.start([(SPECS[0], networks[0])], EvaluationRequest("cheetah-run", 3, episodes=100_000, sample=True))
    process._process.stdin.close()  # as it is when the training is killed
    assert process._process.wait(timeout=60) == 0
    assert not process._folder.exists()


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
        evaluate_objective(objective, EvaluationRequest("cheetah-run", 3, episodes=1, sample=True))
        assert threads == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
