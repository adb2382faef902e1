"""Evaluation beside the training, in a process of its own: told of snapshots of the policy, it answers with results.

    training process                                evaluating process (python -m ...evaluation.evaluator)
      a folder for every seed's networks
      {"folders", "task", "bins", ...}\\n  ---stdin--->  loads them, runs whole episodes
      ... trains on ...                   <--stdout--  {"results": [...]}\\n or {"error": "..."}\\n

It ends when its standard input does, and takes the folders along: a killed training leaves nothing behind.
"""

import json
import os
import queue
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.objectives import Objective
from spin_rl.algorithms.training.agent import AgentSpec
from spin_rl.algorithms.training.checkpoints import load_objective, save_agent_spec
from spin_rl.envs import get_task
from spin_rl.platform.evaluation.episodes import EvaluationResult, evaluate


@dataclass(frozen=True)
class EvaluationRequest:
    """What is evaluated on: episodes of a task; ``sample``: actions are sampled, else the best are taken."""

    task: str
    bins: int
    episodes: int
    sample: bool
    device: str = "cpu"


def evaluate_objective(objective: Objective, request: EvaluationRequest) -> EvaluationResult:
    """Evaluate a policy with the critics beside it: the same bits wherever it is done.

    With one thread: their number decides how sums are rounded, and a batch of a few observations is too small for more.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        policy = ActingPolicy(objective, torch.device(request.device), sample=request.sample)
        return evaluate(get_task(request.task, request.bins), policy, episodes=request.episodes)
    finally:
        torch.set_num_threads(threads)


class EvaluationProcess:
    """One evaluating process; evaluates one snapshot at a time."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="spin-rl-evaluation-"))
        command = [sys.executable, "-m", "spin_rl.algorithms.evaluation.evaluator", str(self._folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def start(self, snapshots: Sequence[tuple[AgentSpec, Mapping[str, Tensor]]], request: EvaluationRequest) -> None:
        """Begin to evaluate networks (tensors of a checkpoint, on the CPU); fetch the results before the next."""
        folders = []
        for index, (spec, networks) in enumerate(snapshots):
            folder = self._folder / str(index)
            folder.mkdir(exist_ok=True)
            save_file(dict(networks), folder / "learner.safetensors")
            save_agent_spec(spec, folder)
            folders.append(str(folder))
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"folders": folders, **asdict(request)}).encode() + b"\n")
        self._process.stdin.flush()

    def done(self) -> bool:
        """Whether ``results`` returns at once."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def results(self) -> list[EvaluationResult]:
        """The results of what was started, in its order; waits for them.

        Raises:
            RuntimeError: the evaluation failed, or its process is gone.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The evaluating process ended with exit code {self._process.wait()}.")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"The evaluation failed: {answer['error']}")
        return [EvaluationResult(**result) for result in answer["results"]]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)


_idle: list[EvaluationProcess] = []


def take_process() -> EvaluationProcess:
    """A process that nobody uses; they are slow to start, so those given back are used again."""
    return _idle.pop() if _idle else EvaluationProcess()


def give_back(process: EvaluationProcess) -> None:
    """Keep a process for the next who needs one; to be given back only without a pending evaluation."""
    _idle.append(process)


def close_idle() -> None:
    """End all processes that nobody uses."""
    while _idle:
        _idle.pop().close()


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    while True:
        answers.write(json.dumps(_answer(json.loads(requests.get()))) + "\n")
        answers.flush()


def _read(requests: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        requests.put(line)
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    os._exit(0)  # nobody waits for the evaluation that is under way


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        folders = request.pop("folders")
        settings = EvaluationRequest(**request)
        objectives = (load_objective(Path(folder)).to(torch.device(settings.device)) for folder in folders)
        return {"results": [asdict(evaluate_objective(objective, settings)) for objective in objectives]}
    except Exception:
        return {"error": traceback.format_exc()}


if __name__ == "__main__":
    main()
