"""What evaluation costs a trial: its share of the time where training waits for it, and where it runs beside it."""

import os
import time

os.environ["OMP_NUM_THREADS"] = "1"

from pathlib import Path
from tempfile import TemporaryDirectory

import ray
from harness import make_random_dataset

from spin_rl.algorithms.rllib import FactoredConfig

UPDATES, EVERY = 20_000, 2_000


def main() -> None:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    with TemporaryDirectory() as folder:
        path = make_random_dataset(Path(folder), "cheetah-run", 100_000)
        for cpus, how in ((1, "in line, one CPU"), (2, "beside the training, two CPUs")):
            config = FactoredConfig().environment("spin_rl/cheetah-run-3-v0").offline_data(input_=path)
            config.training(preset="small", updates_per_iteration=EVERY, evaluate_every=EVERY, evaluation_episodes=10)
            algorithm = (
                config.resources(num_cpus_for_main_process=cpus)
                .update_from_dict({"trial": {"updates": UPDATES}})
                .build_algo()
            )
            started = time.perf_counter()
            while (result := algorithm.train())["updates"] < UPDATES:
                pass
            seconds = time.perf_counter() - started
            held_up = result["time"]["evaluation_seconds"]
            print(
                f"factored (small, cheetah-run), {UPDATES:,} updates, evaluated every {EVERY:,} {how}: "
                f"{seconds:.1f} s, training stood still for evaluation for {held_up:.1f} s = {held_up / seconds:.0%}"
                + (" (aim: under 10%)" if cpus > 1 else ""),
                flush=True,
            )
            algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
