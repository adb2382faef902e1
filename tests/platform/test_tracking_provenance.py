"""The command that repeats a trial names everything that the trial depends on, in options that there are."""

import inspect
import json
import shlex
from typing import Any

import typer
from typer.testing import CliRunner

from spin_rl.algorithms.settings import parse_settings
from spin_rl.commands.train import train
from spin_rl.platform.common import provenance as tracking_provenance
from spin_rl.platform.common.process_metrics import system_metrics
from spin_rl.platform.common.provenance import CODE, code, own_provenance
from spin_rl.platform.tracking.repeat import repeat_command

TRIAL: dict[str, Any] = {
    "algorithm": "spin",
    "task": "cheetah-run",
    "bins": 3,
    "level": "medium-expert",
    "dataset": "/da ta/cheetah-run-3/medium-expert-v1",
    "dataset_digest": "d",
    "environment": "spin_rl/cheetah-run-3-v0",
    "objective": "iql",
    "seed": 1,
    "preset": "small",
    "updates": 4000,
    "evaluate_every": 500,
    "updates_per_iteration": 500,
    "evaluation_episodes": 5,
    "asm": "/results/asm/x/step-000003000",
    "asm_steps": 3000,
    "asm_epochs": 15.4,
    "asm_masking": "variable",
    "expectile": 0.7,
    "network": {"policy_dropout": 0.1},
}


def test_the_repeating_command_is_understood_and_carries_every_setting() -> None:
    command = repeat_command(TRIAL)
    assert command is not None
    understood: dict[str, Any] = {}

    def stand_in(**given: Any) -> None:
        understood.update(given)

    stand_in.__signature__ = inspect.signature(train)  # type: ignore[attr-defined]
    stand_in.__annotations__ = train.__annotations__
    app = typer.Typer()
    app.command()(stand_in)
    assert CliRunner().invoke(app, shlex.split(command)[2:]).exit_code == 0
    assert {name: understood[name] for name in ("algorithm", "task", "level", "version", "root", "asm")} == {
        "algorithm": "spin",
        "task": "cheetah-run",
        "level": "medium-expert",
        "version": 1,
        "root": "/da ta",
        "asm": "/results/asm/x/step-000003000",
    }
    assert (understood["seed"], understood["updates"], understood["episodes"]) == ([1], 4000, 5)
    assert parse_settings(understood["settings"]) == {"expectile": 0.7, "network": {"policy_dropout": 0.1}}


def test_the_repeating_command_finds_data_by_address() -> None:
    command = repeat_command(TRIAL | {"dataset": "s3://bucket/data/cheetah-run-3/medium-expert-v12"})
    assert "--root s3://bucket/data --version 12 " in str(command)


def test_a_trial_without_data_of_its_own_has_no_such_command() -> None:
    assert repeat_command({"algorithm": "spin", "task": "cheetah-run"}) is None


def test_provenance_names_code_versions_and_machine() -> None:
    provenance = own_provenance()
    assert len(provenance["code"].get("commit", "0" * 40)) == 40
    assert provenance["versions"]["python"].count(".") == 2
    assert provenance["machine"]["cores"] >= 1


def test_a_job_without_a_repository_knows_the_commit_it_was_sent_from(monkeypatch) -> None:
    sent = {"commit": "1" * 40, "dirty": True}
    monkeypatch.setenv(CODE, json.dumps(sent))
    monkeypatch.setattr(tracking_provenance, "_output", lambda *_command: "")
    assert code() == sent
    monkeypatch.delenv(CODE)
    assert code() == {}


class NoGPU:
    class cuda:  # noqa: N801, as torch has it
        @staticmethod
        def is_available() -> bool:
            return False


class OneGPU:
    class cuda(NoGPU.cuda):  # noqa: N801
        @staticmethod
        def is_available() -> bool:
            return True

        @staticmethod
        def mem_get_info() -> tuple[int, int]:
            return 3 * 2**30, 4 * 2**30

        @staticmethod
        def max_memory_allocated() -> int:
            return 2**29


def test_a_process_tells_what_it_takes() -> None:
    metrics = system_metrics(NoGPU)
    assert metrics["memory_gib"] > 0.01
    assert metrics["threads"] >= 1
    assert not any(name.startswith("gpu") for name in metrics)
    assert system_metrics(OneGPU).items() >= {"gpu_memory_gib": 0.5, "gpu_memory_used_percent": 25.0}.items()
