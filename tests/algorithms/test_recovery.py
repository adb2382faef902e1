"""The last whole checkpoint of a trial, however its driver ended."""

import json
import shutil
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from spin_rl.algorithms.rllib.recovery import RECORD, digests_of, last_whole_checkpoint


def write(folder: Path, updates: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "learner.safetensors").write_bytes(b"weights after %06d" % updates)
    (folder / "agent.json").write_text("{}")
    (folder / RECORD).write_text(json.dumps({"updates": updates, "files": digests_of(folder)}))
    return folder


def last(trial: Path) -> str | None:
    found = last_whole_checkpoint(LocalFileSystem(), str(trial))
    return found and Path(found).name


def test_the_one_with_the_most_updates_is_the_last(tmp_path):
    assert last(tmp_path / "nowhere") is None
    assert last(tmp_path) is None
    write(tmp_path / "checkpoint_000003", 40)
    write(tmp_path / "checkpoint_000000", 50)  # numbered from 0 again
    write(tmp_path / "something", 99)
    assert last(tmp_path) == "checkpoint_000000"


@pytest.mark.parametrize("damage", ["no-record", "half-record", "other-record", "no-weights", "cut", "mixed"])
def test_half_a_checkpoint_is_passed_over(tmp_path, damage):
    write(tmp_path / "checkpoint_000001", 10)
    half = write(tmp_path / "checkpoint_000002", 20)
    record, weights = half / RECORD, half / "learner.safetensors"
    match damage:
        case "no-record":
            record.unlink()
        case "half-record":
            record.write_text(record.read_text()[:20])
        case "other-record":
            record.write_text("[]")
        case "no-weights":
            weights.unlink()
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "mixed":  # copied over an older one of the same sizes, and cut off between two files
            shutil.copy(tmp_path / "checkpoint_000001/learner.safetensors", weights)
    assert last(tmp_path) == "checkpoint_000001"
