"""Ten evaluation episodes in one batch against ten single ones: environment steps per second, one thread."""

import time

import torch
from harness import paired, show

from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.presets import get_preset
from spin_rl.envs import get_task
from spin_rl.platform.evaluation.episodes import evaluate

EPISODES, STEPS = 10, 1000


def main() -> None:
    torch.set_num_threads(1)
    task = get_task("cheetah-run")
    for name in ("factored", "saint", "autoregressive"):
        policy = get_method(name).build(17, (3,) * 6, get_preset("small"))
        acting = ActingPolicy(policy, torch.device("cpu"), sample=True)

        def run(batch: int, acting: ActingPolicy = acting) -> float:
            started = time.perf_counter()
            evaluate(task, acting, episodes=EPISODES, batch=batch)
            return time.perf_counter() - started

        batched, single = paired(lambda: run(EPISODES), lambda: run(1), rounds=3)
        steps = EPISODES * STEPS
        show(
            f"{name} (small, cheetah-run): steps/s of ten batched against ten single episodes",
            steps / batched,
            steps / single,
        )


if __name__ == "__main__":
    main()
