"""A search over a toy on plain Tune, as a process of its own: ``python toy_search.py FOLDER STORAGE POINTS [asha]``.

A trial's numbers are a function of its parameters and its seed, its seconds too, so that two searches can be compared
to the last bit. It goes on from its own checkpoint, and notes every step that it makes.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import optuna
import ray
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

from spin_rl.platform.common.json_files import write_json
from spin_rl.platform.results.callback import ResultsCallback
from spin_rl.platform.results.files import MetricsFile, start_sweep
from spin_rl.sweeps.search.schedule import PointASHA
from spin_rl.sweeps.search.studies import study_url
from spin_rl.sweeps.search.study_search import StudySearch
from spin_rl.sweeps.search.study_spec import StudySpec

SPACE = {
    "x": optuna.distributions.FloatDistribution(-1.0, 1.0),
    "stop": optuna.distributions.CategoricalDistribution([0, 1, 2, 4]),
}
UPDATES = 4
SEEDS = 2


def make_trials(params):
    shared = {"algorithm": "toy", "task": "toy", "bins": 2, "level": "toy", "updates": UPDATES}
    return [{**shared, **params, "seed": seed} for seed in range(SEEDS)]


class Toy(tune.Trainable):
    def setup(self, config):
        self.reset_config(config)

    def reset_config(self, config):
        """One process runs many trials, as starting one takes seconds."""
        self.settings = config["trial"]
        self.notes = Path(config["notes"]) / self.trial_id
        self.notes.mkdir(parents=True, exist_ok=True)
        self.pause = config["pause"]
        saved = self.notes / "saved.json"
        self.updates = json.loads(saved.read_text()) if saved.exists() else -1
        return True

    def step(self):
        if self.updates < UPDATES:
            time.sleep(self.pause)
            self.updates += 1
            with (self.notes / "steps").open("a") as file:
                file.write(f"{self.updates}\n")
        x, stop, seed = (self.settings[name] for name in ("x", "stop", "seed"))
        if x > 0.97:
            raise RuntimeError("too far")
        score = 10 * self.updates * (1 - (x - 0.3) ** 2) + 3 * stop**0.5 + 0.1 * seed
        return {
            "updates": self.updates,
            "eval": {"normalized_score": score, "return_mean": score},
            "time": {"total_seconds": 5.0 * stop + self.updates, "pretrain_seconds": 5.0 * stop},
        }

    def save_checkpoint(self, folder):
        """Tune asks for it when a result's row is written: saved any earlier, a kill in between would lose the row."""
        (Path(folder) / "updates").write_text(str(self.updates))
        (self.notes / "saved.json").write_text(json.dumps(self.updates))

    def load_checkpoint(self, folder):
        pass  # it looks for itself, as the algorithms do


def make_search(folder, points, url=None, at_once=1, **changes):
    spec = StudySpec(SPACE, make_trials, points=points, startup=3, **changes)
    address = study_url(url, Path(folder).parent)
    return StudySearch(spec, name="toy", settings={"toy": 1}, folder=Path(folder), url=address, at_once=at_once)


def end(search, drawn, state="finished", score=1.0, seconds=2.0):
    """Leave the files that a trial leaves, and tell of its end."""
    trial_id, trial = drawn
    folder = search.folder / "trials" / trial_id
    write_json(folder / "trial.json", {"trial_id": trial_id, "params": dict(trial), "state": state})
    metrics = {"eval/normalized_score": score, "time/total_seconds": seconds}
    MetricsFile(folder / "metrics.jsonl").append({"updates": UPDATES, "timestamp": time.time(), **metrics})
    search.on_trial_complete(trial_id)


def score_of(params):
    return 1 - (params["x"] - 0.5) ** 2


def run_points(search, points):
    """Run so many points to their end, or what is left of them."""
    for _ in range(points * SEEDS):
        if drawn := search.draw():
            end(search, drawn, score=score_of(drawn[1]), seconds=10.0 + drawn[1]["stop"])


def told(search):
    return [(trial.number, trial.state.name, trial.values, trial.params) for trial in search.study.get_trials()]


def states(search):
    return [state for _, state, _, _ in told(search)]


def run(folder, search, scheduler=None, pause=0.0):
    """Run it to its end. Ray must be up."""
    start_sweep(folder, name="toy")
    Tuner(
        Toy,
        param_space={"notes": str(folder / "notes"), "pause": pause},
        tune_config=TuneConfig(
            search_alg=search,
            scheduler=scheduler,
            trial_dirname_creator=lambda trial: trial.trial_id,
            reuse_actors=True,
        ),
        run_config=RunConfig(
            name="tune",
            storage_path=str(folder),
            stop=lambda _, result: result["updates"] >= UPDATES,
            callbacks=[ResultsCallback(folder, lambda trial: trial.config["trial"])],
            checkpoint_config=CheckpointConfig(checkpoint_frequency=1, num_to_keep=1),
            failure_config=FailureConfig(max_failures=1),
            verbose=0,
        ),
    ).fit()


def main():
    folder, url, points, *rest = sys.argv[1:]
    ray.init(address="local", include_dashboard=False, num_cpus=2, log_to_driver=False, logging_level="error")
    with make_search(Path(folder), int(points), url) as search:
        scheduler = PointASHA(Path(folder), first_rung=1, most=UPDATES, reduction=2) if "asha" in rest else None
        run(Path(folder), search, scheduler, pause=0.05)


if __name__ == "__main__":
    main()
