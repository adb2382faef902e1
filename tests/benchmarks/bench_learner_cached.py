"""Updates per second of spin-cached against spin, IQL at the paper's size; one thread, processor time."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from harness import paired, show
from learner import make_spec, update_timer


def main() -> None:
    torch.set_num_threads(1)
    for task, aim, updates in (("cheetah-run", 10.0, 4), ("dog-trot", 20.0, 1)):
        cached = update_timer(make_spec("spin-cached", "paper", task), 10)
        spin = update_timer(make_spec("spin", "paper", task), updates)
        ours, reference = paired(cached, spin, rounds=3)
        show(f"updates/s of spin-cached against spin ({task}'s shapes)", 1 / ours, 1 / reference, aim=aim)


if __name__ == "__main__":
    main()
