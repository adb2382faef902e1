"""What a checkout computes: runs its commands as a user would, and reads the numbers from the files that they leave.

Nothing of the package is imported: the checkout may be of any commit, with its modules at any place. Only the command
line and the files of results (``trial.json``, ``metrics.jsonl``, ``checkpoint.json``, ``*.safetensors``) are relied on.

What is collected is a function of the code and the pinned packages. Left out is what depends on more than that:

- ``time/``, ``perf/`` and ``system/`` metrics, seconds in records of models, timestamps, and reports, which show times;
- ids of trials and keys of models: they are digests of settings and of where things lie, and may change;
- paths, for the same reason.

stop-time's search weighs scores against seconds, so which points TPE draws, and after which others, depends on times.
A space with no more points than the search tries is run whole instead, and nothing is drawn; the tiny one is such a
space. Its trials are therefore compared like any other's, and a trial's numbers do not depend on when it ran.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PARTS = ("sweeps", "pretraining", "methods")
"""What can be collected by itself."""

KNOWN: Mapping[str, tuple[str, ...]] = {
    "sweep": ("pretraining-length", "head-size", "stop-time", "masking", "baselines"),
    "method": ("spin", "spin-cached", "spin-distill", "finetune", "saint", "factored", "autoregressive"),
    "objective": ("iql", "awac", "bcq"),
    "pretraining objective": ("mam", "vam", "cam"),
}
"""What there is to run, where a checkout does not say so itself."""

TASK, LEVEL = "cheetah-run", "medium-expert"
"""What pretrainings learn from; the sweeps' tiny sizes have the same."""

TRANSITIONS = 2000
PRETRAINING_STEPS = (20, 40)
UPDATES = 10

# The two pairs that presets have, so that both precisions run.
MASKINGS = {"fixed": "float32", "variable": "bfloat16"}

ENTRIES = {
    "spin_rl/__main__.py": "spin_rl.__main__",
    "platform/cli.py": "spin_rl.platform.cli",
    "spin_rl/platform/cli.py": "spin_rl.platform.cli",
}
"""Files of a checkout, and the module that is its command line where it has such a file; the first one counts."""

# Of the user, or of this shell: they would decide where things lie, where they run, or how sums are rounded.
_DROPPED = ("SPIN_RL_", "MLFLOW_", "OMP_", "MKL_", "KMP_", "DNNL_", "ONEDNN_", "ATEN_", "TORCH_", "PYTORCH_")

Record = dict[str, Any]
"""A part's numbers: ``names`` (what there is to run, by kind) and ``entries``, each of a trial, a model or a dataset.

An entry has ``group`` (the command that made it), ``kind``, ``params`` (which tell it apart from others of its group
and kind) and ``numbers``: values by name, a tensor's being a digest of its bits.
"""

Names = Mapping[str, Sequence[str]]
"""What there is to run, by kind, as in `KNOWN`."""


class CollectionError(Exception):
    """A command of the checkout failed, or did not leave what it should; says which and why."""


def collect(
    checkout: Path, out: Path, part: str, *, wanted: Names | None = None, say: Callable[[str], None] = print
) -> Record:
    """Run what ``part`` is made of in ``checkout`` and read its numbers.

    Args:
        checkout: root of the code.
        out: an empty folder for datasets and results; may be deleted afterwards.
        part: one of `PARTS`.
        wanted: what to run of what there is; all of it by default.
        say: called with a line on each finished command, with its seconds.

    Raises:
        CollectionError: a command failed.
    """
    line = CommandLine(checkout.absolute(), out.absolute(), say)
    line.check()
    return {"sweeps": _sweeps, "pretraining": _pretraining, "methods": _methods}[part](line, wanted)


def _sweeps(line: "CommandLine", wanted: Names | None) -> Record:
    """Every sweep at its tiny size, each with a storage of its own so that none finds what another made."""
    names = {"sweep": line.known("sweep", "sweep", "?")}
    entries = [entry for name in _chosen(names, "sweep", wanted) for entry in line.sweep(name, "sweep", name, "--tiny")]
    return {"names": names, "entries": entries}


def _methods(line: "CommandLine", wanted: Names | None) -> Record:
    """A few updates of every method with every objective, as one sweep."""
    methods = line.known("method", "train", "?", TASK, LEVEL)
    names = {"method": methods, "objective": line.known("objective", "train", methods[0], TASK, LEVEL, "--objective=?")}
    some, objectives = (_chosen(names, kind, wanted) for kind in ("method", "objective"))
    if not some or not objectives:
        return {"names": names, "entries": []}
    words = ["--algorithms", ",".join(some), "--objectives", ",".join(objectives), "--updates", str(UPDATES)]
    once = ["--evaluations", "1", "--episodes", "1"]  # before the first update and after the last
    return {"names": names, "entries": line.sweep("baselines", "sweep", "baselines", "--tiny", *words, *once)}


def _pretraining(line: "CommandLine", wanted: Names | None) -> Record:
    """Every pretraining objective with both maskings, on one dataset."""
    data = line.out / "data"
    size = ("--size", str(TRANSITIONS), "--workers", "0")
    line.run(f"data make {TASK} {LEVEL}", "data", "make", TASK, LEVEL, *size, "--root", str(data))
    known = line.known("pretraining objective", "pretrain", TASK, LEVEL, "--asm-objective=?", "--root", str(data))
    names = {"pretraining objective": known}
    entries = list(read_datasets(data, "pretrain"))
    steps = [word for step in PRETRAINING_STEPS for word in ("--steps", str(step))]
    for objective in _chosen(names, "pretraining objective", wanted):
        for masking, precision in MASKINGS.items():
            settings = ["--asm-objective", objective, "--masking", masking, "--precision", precision]
            storage = line.out / f"{objective}-{masking}"
            places = ["--root", str(data), "--storage", str(storage)]
            title = f"pretrain {objective}, {masking} masking, {precision}"
            line.run(title, "pretrain", TASK, LEVEL, "--preset", "tiny", *settings, *steps, *places)
            found = list(read_models(storage, "pretrain"))
            if len(found) != len(PRETRAINING_STEPS):
                raise CollectionError(f"{title}: left {len(found)} models in the place of {len(PRETRAINING_STEPS)}.")
            for model in found:  # told apart by what was asked for, whatever a model's record calls it
                step = model["params"]["step"]
                entries.append({**model, "params": {"objective": objective, "masking": masking, "step": step}})
    return {"names": names, "entries": entries}


def _chosen(names: Names, kind: str, wanted: Names | None) -> list[str]:
    return [name for name in names[kind] if wanted is None or name in wanted[kind]]


class CommandLine:
    """The command line of one checkout.

    Args:
        checkout: root of the code.
        out: where commands leave what they make.
        say: called with a line on each finished command.
    """

    def __init__(self, checkout: Path, out: Path, say: Callable[[str], None]) -> None:
        entry = next((module for file, module in ENTRIES.items() if (checkout / file).is_file()), None)
        if entry is None:
            raise CollectionError(f"{checkout} has no command line: there is none of {', '.join(ENTRIES)}.")
        self.checkout, self.out, self._say = checkout, out, say
        self._start = [sys.executable, "-m", entry]
        out.mkdir(parents=True, exist_ok=True)

    def check(self) -> None:
        """CollectionError where the command line, or what it imports, does not come from the checkout.

        An editable install of another checkout fills in for modules that this one lacks.
        """
        code = (
            f"import importlib, sys; importlib.import_module({self._start[-1]!r})\n"
            "for name, module in sys.modules.items():\n"
            "    if name.split('.')[0] == 'spin_rl' and module.__file__: print(module.__file__)"
        )
        answer = self._call([sys.executable, "-c", code])
        if answer.returncode:
            raise CollectionError(f"the command line cannot be imported.\n{answer.stderr.strip()}")
        for file in answer.stdout.splitlines():
            if not Path(file).resolve().is_relative_to(self.checkout.resolve()):
                raise CollectionError(f"{file} is imported in the place of the file in {self.checkout}.")

    def run(self, title: str, *words: str) -> None:
        """Run a command to its end.

        Raises:
            CollectionError: it failed; with the end of what it printed.
        """
        started = time.monotonic()
        done = self._call([*self._start, *words])
        if done.returncode:
            last = "\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-15:])
            raise CollectionError(f"{title}: the command ended with code {done.returncode}.\n{last}")
        self._say(f"{title}: {time.monotonic() - started:.0f} s")

    def known(self, kind: str, *words: str) -> list[str]:
        """What a checkout has of ``kind``: the answer to a command that names one that there cannot be."""
        answer = self._call([*self._start, *words]).stderr
        if not (found := re.search(r"There is: (.+)\.\s*$", answer)):
            self._say(f"the checkout does not say what {kind}s it has; taken for: {', '.join(KNOWN[kind])}")
            return list(KNOWN[kind])
        return [name for name in found[1].split(", ") if " " not in name]  # but for "or a Python file ..."

    def sweep(self, group: str, *words: str) -> list[Record]:
        """Run a sweep with a storage and data of its own; what it left: its trials, models and datasets."""
        data, storage = self.out / group / "data", self.out / group / "results"
        self.run(f"sweep {group}", *words, "--root", str(data), "--storage", str(storage))
        found = [*read_trials(storage, group), *read_models(storage, group), *read_datasets(data, group)]
        if not any(entry["kind"] == "trial" for entry in found):
            raise CollectionError(f"sweep {group}: left no trials.")
        return found

    def _call(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        environment = clean_environment(self.checkout)
        return subprocess.run(command, cwd=self.checkout, env=environment, capture_output=True, text=True)


def clean_environment(checkout: Path) -> dict[str, str]:
    """The environment of a command: the code of ``checkout``, one thread, no GPU, nothing that a user has set."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(_DROPPED) and name != "RAY_ADDRESS"
    }
    return {
        **kept,
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": "1",  # the number of threads decides how sums are rounded
        "CUDA_VISIBLE_DEVICES": "",  # which of a GPU's threads adds first is not a function of the code
        "RAY_USAGE_STATS_ENABLED": "0",
        "MUJOCO_GL": "disable",
    }


# Reading what the commands left


def read_trials(storage: Path, group: str) -> Iterator[Record]:
    """An entry for every trial of the sweep in ``storage``: its metrics, its last checkpoint's tensors, its settings.

    Raises:
        CollectionError: one is not finished, or left no checkpoint.
    """
    for path in sorted(storage.glob("*/trials/*/trial.json")):
        record = json.loads(path.read_text())
        trial_id, sweep = record["trial_id"], path.parents[2]
        params = {name: value for name, value in _flat(record["params"]) if not _is_place(value, storage)}
        if record["state"] != "finished":
            raise CollectionError(f"sweep {group}: trial {trial_id} is {record['state']}: {record['error']}")
        checkpoints = sorted(sweep.glob(f"tune/*-{trial_id}/checkpoint_*"))
        if not checkpoints:
            raise CollectionError(f"sweep {group}: trial {trial_id} left no checkpoint.")
        numbers = {f"settings/{name}": value for name, value in params.items()}
        numbers |= read_metrics(path.with_name("metrics.jsonl")) | read_tensors(checkpoints[-1])
        yield {"group": group, "kind": "trial", "params": params, "numbers": numbers}


def read_metrics(path: Path) -> dict[str, Any]:
    """``<updates>/<metric>`` of every line, of the groups that do not depend on the clock; None is a NaN."""
    numbers = {}
    for text in path.read_text().splitlines():
        line = json.loads(text)
        for name, value in line.items():
            if name.startswith(("eval/", "train/")):
                numbers[f"{line['updates']}/{name}"] = value
    return numbers


def read_models(storage: Path, group: str) -> Iterator[Record]:
    """An entry for every checkpoint of an action structure model in ``storage``: held-out losses, tensors, settings."""
    for path in sorted(storage.glob("asm/**/step-*/checkpoint.json")):
        record, model = json.loads(path.read_text()), path.parents[1]
        settings = dict(_flat(json.loads((model / "identity.json").read_text())))
        # a dataset is called by its name, as its digest is compared by itself
        place = {"dataset": "/".join(model.relative_to(storage / "asm").parts[:-1]), "step": record["step"]}
        numbers = {f"settings/{name}": value for name, value in settings.items()}
        numbers |= {name: value for name, value in record.items() if isinstance(value, int | float)}
        del numbers["pretrain_seconds"]
        numbers |= read_tensors(path.parent)
        yield {"group": group, "kind": "model", "params": {**settings, **place}, "numbers": numbers}


def read_datasets(root: Path, group: str) -> Iterator[Record]:
    """An entry for every dataset below ``root``: its digest, and what its record says of its content."""
    for path in sorted(root.glob("**/metadata.json")):
        record = json.loads(path.read_text())
        for name in ("versions", "created"):  # of packages, and a time
            del record[name]
        name = "/".join(path.parts[-3:-1])
        yield {"group": group, "kind": "dataset", "params": {"dataset": name}, "numbers": dict(_flat(record))}


def read_tensors(folder: Path) -> dict[str, str]:
    """A digest of type, shape and bits of every tensor in the safetensors files below ``folder``, by file and name."""
    return {
        f"{path.relative_to(folder).with_suffix('')}/{name}": digest
        for path in sorted(folder.rglob("*.safetensors"))
        for name, digest in _tensors_of(path)
    }


def _tensors_of(path: Path) -> Iterator[tuple[str, str]]:
    """Name and digest of each tensor; read by the format's definition, as NumPy knows not all of its types."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)  # not tensors; holds seconds
    for name, tensor in sorted(header.items()):
        first, last = tensor["data_offsets"]
        digest = hashlib.blake2b(f"{tensor['dtype']} {tensor['shape']}".encode(), digest_size=16)
        digest.update(content[start + first : start + last])
        yield name, digest.hexdigest()


def _flat(nested: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and plain values of nested JSON, as in ``masking.rate``."""
    if isinstance(nested, dict | list):
        for name, value in nested.items() if isinstance(nested, dict) else enumerate(nested):
            yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, nested


def _is_place(value: Any, storage: Path) -> bool:
    """Whether a setting says where something lies: below the folder that holds the storage."""
    return isinstance(value, str) and str(storage.parent) in value
