"""The paper's protocol on a GPU: updates and pretraining steps per second, and what one task takes from end to end."""

import math
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from harness import make_random_dataset, show
from learner import make_asm, make_spec

from spin_rl.algorithms.asm.pretraining import ASMConfig, ASMPretraining
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent
from spin_rl.algorithms.training.seeds import SeedsAgent
from spin_rl.envs import get_task
from spin_rl.platform.datasets import OfflineDataset, open_dataset
from spin_rl.platform.evaluation.episodes import evaluate

TRANSITIONS, UPDATES, STEPS = 20_000, 2000, 300
# the paper's protocol for one task (SPEC.md)
DATASET, EPOCHS, PAPER_UPDATES, EVALUATE_EVERY, EPISODES = 2_000_000, 100, 1_000_000, 5000, 10


def rate(agent: OfflineAgent | SeedsAgent, data: DeviceTransitions, updates: int = UPDATES) -> float:
    """Updates per second, after the warm-up and the capture."""
    agent.train(data, 50)
    started = time.perf_counter()
    agent.train(data, updates)  # reads the losses: it is done when it returns
    return updates / (time.perf_counter() - started)


def pretraining_rate(dataset: OfflineDataset, spec: AgentSpec, device: torch.device) -> float:
    """Steps per second with minibatches of 1024, the paper's."""
    pretraining = ASMPretraining(dataset, ASMConfig(sizes=spec.preset.asm), device)
    pretraining.train(50)
    started = time.perf_counter()
    pretraining.train(50 + STEPS)
    return STEPS / (time.perf_counter() - started)


def bench_task(task: str, aim: float, folder: str, device: torch.device) -> None:
    make_random_dataset(Path(folder), task, TRANSITIONS)
    dataset = open_dataset(task, "random", root=folder)
    data = DeviceTransitions(dataset, device)
    spec = make_spec("spin", "paper", task)
    asm = make_asm(spec)
    agent = OfflineAgent(spec, device, asm)
    single = rate(agent, data)
    print(f"{task}: SPIN-IQL updates/s in float32: {single:,.0f} (aim on an H100: {aim:,.0f})", flush=True)
    plain = rate(OfflineAgent(replace(spec, cuda_graph=False), device, asm), data, 200)
    show(f"{task}: updates/s captured as a CUDA graph against without", single, plain)
    for precision in ("tf32", "bfloat16"):
        other = rate(OfflineAgent(make_spec("spin", "paper", task, precision=precision), device, asm), data)
        show(f"{task}: updates/s in {precision} against float32", other, single)
    cached = rate(OfflineAgent(make_spec("spin-cached", "paper", task), device, asm), data)
    show(f"{task}: updates/s of spin-cached against spin", cached, single)
    together = 5 * rate(SeedsAgent(spec, range(5), device, asm), data, 500)
    show(f"{task}: updates/s of all of five seeds at once against one", together, single, aim=3.0)
    steps = pretraining_rate(dataset, spec, device)
    print(f"{task}: pretraining steps/s with minibatches of 1024: {steps:,.1f}")
    started = time.perf_counter()
    evaluate(get_task(task), ActingPolicy(agent.objective, device, sample=True), episodes=EPISODES)
    evaluation = time.perf_counter() - started
    parts = {
        "pretraining": EPOCHS * math.ceil(DATASET / 1024) / steps,
        "updates": PAPER_UPDATES / single,
        "evaluations": PAPER_UPDATES // EVALUATE_EVERY * evaluation,
    }
    minutes = ", ".join(f"{name} {seconds / 60:,.0f}" for name, seconds in parts.items())
    print(f"{task}: the paper's whole protocol, extrapolated: {sum(parts.values()) / 60:,.0f} minutes ({minutes})")


def main() -> None:
    if not torch.cuda.is_available():
        print("There is no GPU here: 'python tests/benchmarks/bench_gpu.py' on a machine that has one measures it.")
        return
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    for task, aim in (("cheetah-run", 1500.0), ("dog-trot", 600.0)):
        with TemporaryDirectory() as folder:
            bench_task(task, aim, folder, device)


if __name__ == "__main__":
    main()
