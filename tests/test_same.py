"""``make same``: what it counts as the same number, and what as a difference."""

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import same.__main__ as tool
import torch
from rich.console import Console
from safetensors.torch import save_file
from same import numbers
from same.__main__ import UsageError, main, parts_of, read_expected, show
from same.compare import ABSENT, DIFFERS, MISSING, ONLY_HERE, Comparison, compare, same
from same.numbers import (
    CollectionError,
    CommandLine,
    clean_environment,
    collect,
    read_datasets,
    read_models,
    read_tensors,
    read_trials,
)


def trial(numbers: Mapping[str, Any], **params: Any) -> dict[str, Any]:
    return {"group": "masking", "kind": "trial", "params": params, "numbers": dict(numbers)}


def record(*entries: Mapping[str, Any], sweeps: Sequence[str] = ("masking",)) -> dict[str, Any]:
    return {"sweeps": {"names": {"sweep": list(sweeps)}, "entries": list(entries)}}


def found(comparison: Comparison) -> list[tuple[str, str]]:
    return [(finding.key, finding.verdict) for finding in comparison.findings]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (0.1, 0.1, True),
        (0.1, math.nextafter(0.1, 1), False),
        (1e300, math.nextafter(1e300, 0), False),
        (5e-324, 0.0, False),
        (0.0, -0.0, False),
        (math.nan, math.nan, True),
        (math.nan, 0.0, False),
        (math.inf, math.inf, True),
        (None, None, True),  # what files hold for a NaN
        (None, 0.0, False),
        (2, 2.0, True),
        (2**53, 2**53 + 1, False),
        (True, 1, False),
        ("a", "a", True),
        ("1", 1, False),
    ],
)
def test_two_values_are_the_same_only_to_the_last_bit(one: Any, other: Any, expected: bool) -> None:
    assert same(one, other) is expected
    assert same(other, one) is expected


def test_a_last_bit_is_found_and_named() -> None:
    value = 6.7585569457151
    base = record(trial({"4/eval/return_mean": value, "4/train/q": math.nan}, seed=0), trial({}, seed=1))
    here = record(
        trial({"4/eval/return_mean": math.nextafter(value, 7), "4/train/q": math.nan}, seed=0), trial({}, seed=1)
    )
    comparison = compare(base, here)
    assert found(comparison) == [("sweeps/masking/trial/seed=0/4/eval/return_mean", DIFFERS)]
    assert comparison.fails
    assert not compare(base, base).findings
    assert comparison.compared == {("sweeps", "masking"): {"trial": 2, "values": 2}}


def test_trials_are_matched_by_what_tells_them_apart_in_any_order() -> None:
    base = record(*(trial({"4/train/q": q}, algorithm=name, seed=0) for name, q in (("spin", 1.0), ("saint", 2.0))))
    here = record(*(trial({"4/train/q": q}, algorithm=name, seed=0) for name, q in (("saint", 2.0), ("spin", 1.5))))
    assert found(compare(base, here)) == [("sweeps/masking/trial/algorithm=spin/4/train/q", DIFFERS)]


def test_a_new_setting_that_all_trials_share_does_not_part_them() -> None:
    base = record(trial({"4/train/q": 1.0}, seed=0), trial({"4/train/q": 2.0}, seed=1))
    here = record(
        trial({"4/train/q": 1.0, "settings/gamma": 0.9}, seed=0, gamma=0.9),
        trial({"4/train/q": 2.0, "settings/gamma": 0.9}, seed=1, gamma=0.9),
    )
    comparison = compare(base, here)
    assert {verdict for _, verdict in found(comparison)} == {ONLY_HERE}
    assert not comparison.fails
    assert compare(here, base).fails


def test_a_setting_that_only_some_trials_have_tells_them_apart() -> None:
    entries = [trial({"4/train/q": 1.0}, seed=0), trial({"4/train/q": 2.0}, seed=0, asm_steps=20)]
    comparison = compare(record(*entries), record(*reversed(entries)))
    assert not comparison.findings
    assert comparison.compared["sweeps", "masking"]["trial"] == 2


def test_trials_that_nothing_tells_apart_are_all_compared() -> None:
    base = record(trial({"4/train/q": 1.0}, seed=0), trial({"4/train/q": 2.0}, seed=0))
    here = record(trial({"4/train/q": 1.0}, seed=0), trial({"4/train/q": 3.0}, seed=0))
    assert found(compare(base, here)) == [("sweeps/masking/trial#2/4/train/q", DIFFERS)]


def test_what_is_missing_here_fails_and_what_is_new_does_not() -> None:
    entries = [trial({"4/train/q": 1.0}, seed=0), trial({"4/train/q": 2.0, "4/train/value": 1.0}, seed=1)]
    fewer = record(trial({"4/train/q": 2.0}, seed=1))
    lost = compare(record(*entries), fewer)
    assert found(lost) == [
        ("sweeps/masking/trial/seed=0", MISSING),
        ("sweeps/masking/trial/seed=1/4/train/value", MISSING),
    ]
    assert lost.fails
    assert [finding.here for finding in lost.findings] == [ABSENT, ABSENT]
    new = compare(fewer, record(*entries))
    assert [verdict for _, verdict in found(new)] == [ONLY_HERE, ONLY_HERE]
    assert not new.fails


def test_a_new_sweep_is_told_and_one_that_is_gone_fails() -> None:
    old, new = record(), record(sweeps=("masking", "depth"))
    assert found(compare(old, new)) == [("sweeps/sweep/depth", ONLY_HERE)]
    assert not compare(old, new).fails
    assert found(compare(new, old)) == [("sweeps/sweep/depth", MISSING)]
    assert compare(new, old).fails


def test_differences_that_are_expected_do_not_fail_and_others_still_do() -> None:
    base = record(trial({"2/train/q": 1.0, "2/eval/return_mean": 5.0}, objective="iql"), trial({}, objective="bcq"))
    here = record(trial({"2/train/q": 2.0, "2/eval/return_mean": 6.0}, objective="iql"), trial({}, objective="bcq"))
    reasons = {"sweeps/*/objective=iql/*/train/*": "another expectile", "*/objective=awac/*": "not run"}
    some = compare(base, here, reasons)
    assert [finding.reason for finding in some.findings] == ["another expectile", ""]
    assert some.fails
    assert some.unused == ["*/objective=awac/*"]
    assert not compare(base, here, {"sweeps/masking/trial/objective=iql/*": "another expectile"}).fails


def test_the_table_shows_all_digits_of_both_sides_and_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    base = record(trial({"2/train/q": 0.1, "2/train/value": 1.0}, seed=0))
    here = record(trial({"2/train/q": math.nextafter(0.1, 1), "2/train/value": 2.0}, seed=0))
    show(compare(base, here, {"*/value": "it counts [twice] now"}), "0123456789abcdef", Console(width=160))
    printed = capsys.readouterr().out
    assert "0.10000000000000002" in printed
    assert "changed on purpose: it counts [twice] now" in printed
    assert "1 differences" in printed


# Reading files


def test_a_tensors_digest_changes_with_any_bit_of_it_and_with_nothing_else(tmp_path: Path) -> None:
    tensors = {"q": torch.arange(6.0).reshape(2, 3), "trunk": torch.ones(3, dtype=torch.bfloat16)}
    changed = {**tensors, "q": tensors["q"].clone()}
    changed["q"][1, 2] = torch.nextafter(changed["q"][1, 2], torch.tensor(9.0))
    digests = []
    for name, content, seconds in (("a", tensors, "1.0"), ("b", tensors, "2.0"), ("c", changed, "1.0")):
        (tmp_path / name).mkdir()
        save_file(content, tmp_path / name / "learner.safetensors", {"seconds": seconds})
        digests.append(read_tensors(tmp_path / name))
    first, again, other = digests
    assert list(first) == ["learner/q", "learner/trunk"]
    assert first == again
    assert first["learner/trunk"] == other["learner/trunk"]
    assert first["learner/q"] != other["learner/q"]


def test_the_shape_of_a_tensor_counts(tmp_path: Path) -> None:
    for name, shape in (("a", (2, 3)), ("b", (3, 2))):
        (tmp_path / name).mkdir()
        save_file({"q": torch.zeros(shape)}, tmp_path / name / "model.safetensors")
    assert read_tensors(tmp_path / "a") != read_tensors(tmp_path / "b")


def write_sweep(storage: Path, trial_id: str, state: str = "finished") -> None:
    """A trial as a sweep leaves it."""
    folder = storage / "masking-1a2b3c" / "trials" / trial_id
    checkpoint = storage / "masking-1a2b3c" / "tune" / f"spin-cheetah-run-{trial_id}" / "checkpoint_000002"
    folder.mkdir(parents=True)
    checkpoint.mkdir(parents=True)
    params = {"algorithm": "spin", "asm": str(storage / "asm/x/step-000000020"), "network": {"asm": {"width": 16}}}
    trial = {"trial_id": trial_id, "params": params, "state": state, "error": "out of memory", "started": 17.5}
    (folder / "trial.json").write_text(json.dumps(trial))
    lines = [
        {
            "updates": 0,
            "timestamp": 1.5,
            "eval/return_mean": 3.0,
            "time/total_seconds": 4.0,
            "perf/updates_per_second": 0,
        },
        {"updates": 4, "timestamp": 2.5, "eval/return_mean": 4.0, "train/q": None, "system/threads": 30.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_file({"q": torch.zeros(2)}, checkpoint / "learner.safetensors")


def test_a_trials_numbers_are_read_without_times_places_and_ids(tmp_path: Path) -> None:
    write_sweep(tmp_path / "one" / "results", "1a2b3_00000")
    write_sweep(tmp_path / "other" / "results", "9f9f9_00007")
    (one,), (other,) = (list(read_trials(tmp_path / name / "results", "masking")) for name in ("one", "other"))
    assert one == other
    assert one["params"] == {"algorithm": "spin", "network.asm.width": 16}
    assert list(one["numbers"]) == [
        "settings/algorithm",
        "settings/network.asm.width",
        "0/eval/return_mean",
        "4/eval/return_mean",
        "4/train/q",
        "learner/q",
    ]


def test_a_trial_that_did_not_end_well_is_no_result(tmp_path: Path) -> None:
    write_sweep(tmp_path / "results", "1a2b3_00000", state="failed")
    with pytest.raises(CollectionError, match="failed: out of memory"):
        list(read_trials(tmp_path / "results", "masking"))


def test_a_models_numbers_are_its_losses_and_tensors_without_seconds(tmp_path: Path) -> None:
    folder = tmp_path / "asm" / "cheetah-run-3" / "medium-expert-v1" / "0123" / "step-000000020"
    folder.mkdir(parents=True)
    (folder.parent / "identity.json").write_text(json.dumps({"dataset": "d1", "masking": {"rate": 0.15}}))
    checkpoint = {"path": "", "key": "0123", "step": 20, "pretrain_seconds": 0.3, "validation_loss": 1.25}
    (folder / "checkpoint.json").write_text(json.dumps(checkpoint))
    save_file({"q": torch.zeros(2)}, folder / "model.safetensors")
    (model,) = read_models(tmp_path, "masking")
    assert model["params"] == {"dataset": "cheetah-run-3/medium-expert-v1", "masking.rate": 0.15, "step": 20}
    assert list(model["numbers"]) == [
        "settings/dataset",
        "settings/masking.rate",
        "step",
        "validation_loss",
        "model/q",
    ]


def test_a_datasets_numbers_are_its_digest_and_its_contents_record(tmp_path: Path) -> None:
    folder = tmp_path / "tiny" / "cheetah-run-3" / "medium-expert-v1"
    folder.mkdir(parents=True)
    content = {"digest": "d1", "returns": {"mean": 1.5}, "versions": {"numpy": "2"}, "created": "today"}
    (folder / "metadata.json").write_text(json.dumps(content))
    (dataset,) = read_datasets(tmp_path, "masking")
    assert dataset["params"] == {"dataset": "cheetah-run-3/medium-expert-v1"}
    assert dataset["numbers"] == {"digest": "d1", "returns.mean": 1.5}


# Running commands


def answering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stderr: str) -> tuple[CommandLine, list[str]]:
    """A command line all of whose commands answer with this, and what it says."""
    (tmp_path / "spin_rl").mkdir()
    (tmp_path / "spin_rl" / "__main__.py").touch()
    said: list[str] = []
    line = CommandLine(tmp_path, tmp_path / "out", said.append)
    answer = subprocess.CompletedProcess([], 2, stdout="", stderr=stderr)
    monkeypatch.setattr(CommandLine, "_call", lambda *_: answer)
    return line, said


def test_a_checkout_is_asked_what_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "spin-rl: There is no sweep '?'. There is: depth, head-size, or a Python file that defines SWEEP.\n"
    line, said = answering(monkeypatch, tmp_path, text)
    assert line.known("sweep", "sweep", "?") == ["depth", "head-size"]
    assert said == []


def test_one_that_does_not_answer_has_what_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line, said = answering(monkeypatch, tmp_path, "no such command")
    assert line.known("objective", "train", "?") == ["iql", "awac", "bcq"]
    assert "does not say what objectives it has" in said[0]


def test_a_command_that_fails_is_told_with_what_it_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line, _ = answering(monkeypatch, tmp_path, "spin-rl: out of disk\n")
    with pytest.raises(CollectionError, match=r"sweep masking: the command ended with code 2\.\nspin-rl: out of disk"):
        line.run("sweep masking", "sweep", "masking")


def test_the_working_tree_runs_what_the_base_has_and_names_what_is_new(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = {"method": ["spin", "saint", "factored"], "objective": ["iql", "bcq"], "sweep": ["masking", "depth"]}
    ran: list[tuple[str, ...]] = []
    (tmp_path / "spin_rl").mkdir()
    (tmp_path / "spin_rl" / "__main__.py").touch()
    monkeypatch.setattr(CommandLine, "check", lambda self: None)
    monkeypatch.setattr(CommandLine, "known", lambda self, kind, *words: there[kind])
    monkeypatch.setattr(CommandLine, "sweep", lambda self, group, *words: ran.append(words) or [])
    wanted = {"method": ["factored", "spin", "finetune"], "objective": ["iql"], "sweep": ["masking"]}
    methods = collect(tmp_path, tmp_path / "out", "methods", wanted=wanted)
    sweeps = collect(tmp_path, tmp_path / "out", "sweeps", wanted=wanted)
    assert methods["names"] == {"method": there["method"], "objective": there["objective"]}
    assert sweeps["names"] == {"sweep": there["sweep"]}
    assert ran[0][:7] == ("sweep", "baselines", "--tiny", "--algorithms", "spin,factored", "--objectives", "iql")
    assert ran[1:] == [("sweep", "masking", "--tiny")]


def test_the_bases_numbers_are_computed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def collected(checkout: Path, out: Path, part: str, **_: Any) -> dict[str, Any]:
        asked.append(part)
        return {"names": {}, "entries": [trial({"q": 0.1 + 0.2, "nan": math.nan}, seed=len(asked))]}

    monkeypatch.setattr(tool, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(tool, "export", lambda commit, folder: None)
    monkeypatch.setattr(numbers, "collect", collected)

    def numbers_of(*parts: str, use_cache: bool = True) -> dict[str, Any]:
        return tool.base_numbers("abc", parts, tmp_path, Console(quiet=True), use_cache=use_cache)

    first = numbers_of("methods")
    assert not compare(first, numbers_of("methods")).findings
    assert list(numbers_of("sweeps", "methods")) == ["sweeps", "methods"]
    assert asked == ["methods", "sweeps"]
    numbers_of("methods", use_cache=False)
    assert asked == ["methods", "sweeps", "methods"]
    numbers_of("methods", "sweeps")
    assert len(asked) == 3


# Asking for it


def test_commands_see_no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    users = {
        "SPIN_RL_DATA": "x",
        "MLFLOW_TRACKING_URI": "x",
        "RAY_ADDRESS": "x",
        "OMP_NUM_THREADS": "4",
        "MKL_CBWR": "x",
    }
    for name, value in users.items():
        monkeypatch.setenv(name, value)
    environment = clean_environment(tmp_path)
    assert {name: environment.get(name) for name in users} == {**dict.fromkeys(users), "OMP_NUM_THREADS": "1"}
    assert environment["PYTHONPATH"] == str(tmp_path)
    assert environment["MUJOCO_GL"] == "disable"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"


def test_the_command_line_is_found_in_either_layout(tmp_path: Path) -> None:
    for number, file in enumerate(("platform/cli.py", "spin_rl/__main__.py")):
        checkout = tmp_path / str(number)
        (checkout / file).parent.mkdir(parents=True)
        (checkout / file).touch()
        CommandLine(checkout, tmp_path / "out", print)
    with pytest.raises(CollectionError, match="has no command line"):
        CommandLine(tmp_path, tmp_path / "out", print)


def test_a_package_from_elsewhere_is_not_taken_for_the_checkouts(tmp_path: Path) -> None:
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    for folder in (checkout / "spin_rl", elsewhere):
        folder.mkdir(parents=True)
    (checkout / "spin_rl" / "__init__.py").touch()
    (checkout / "spin_rl" / "__main__.py").write_text("import spin_rl.toys")
    (checkout / "spin_rl" / "toys.py").touch()
    CommandLine(checkout, tmp_path / "out", print).check()
    (checkout / "spin_rl" / "toys.py").rename(elsewhere / "toys.py")
    (checkout / "spin_rl" / "__init__.py").write_text(f"__path__.append({str(elsewhere)!r})")
    with pytest.raises(CollectionError, match=r"elsewhere.toys\.py is imported in the place of"):
        CommandLine(checkout, tmp_path / "out", print).check()
    (elsewhere / "toys.py").unlink()
    with pytest.raises(CollectionError, match="cannot be imported"):
        CommandLine(checkout, tmp_path / "out", print).check()


def test_parts_are_run_in_their_own_order() -> None:
    assert parts_of("methods, sweeps") == ["sweeps", "methods"]


@pytest.mark.parametrize(("arguments", "names"), [(["--only", "speed"], "speed"), (["--base", "no-such"], "no-such")])
def test_what_cannot_be_compared_is_one_sentence(
    arguments: list[str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("same: ")
    assert names in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": ""}'])
def test_expected_differences_need_a_reason_each(text: str, tmp_path: Path) -> None:
    (tmp_path / "expected.json").write_text(text)
    with pytest.raises(UsageError, match=r"expected\.json"):
        read_expected(tmp_path / "expected.json")
    assert read_expected(tmp_path / "none.json") == {}
