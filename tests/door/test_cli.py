"""The command line: a user's mistake is one sentence with the fix, exit code 2 and no traceback; --help is quick."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from spin_rl import cli
from spin_rl.algorithms.methods import METHODS, POLICY_OBJECTIVES
from spin_rl.algorithms.presets import PRESETS
from spin_rl.api import running
from spin_rl.commands.lazy import LazyCommand, LazyGroup
from spin_rl.commands.options import one_of
from spin_rl.sweeps.registry import SWEEPS
from tests.platform.sweep_fixture import params, write_trial


@pytest.fixture
def refused(monkeypatch, capfd):
    """Runs a command that has to be refused; returns the sentence."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["spin-rl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capfd.readouterr().err
        assert ended.value.code == 2, said
        assert "Traceback" not in said
        return said

    return run


def one_sentence(said: str) -> str:
    (line,) = [line for line in said.splitlines() if line.startswith("spin-rl: ")]
    assert said.strip().endswith(line)
    return line


def place(data: Path, storage: Path) -> list[str]:
    return ["--root", str(data), "--storage", str(storage)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "train spim cheetah-run medium-expert",
            ["no algorithm 'spim'", "Did you mean spin?", "saint-film, "],
        ),
        ("train spin cheetah-rnu medium-expert", ["no task 'cheetah-rnu'", "Did you mean cheetah-run?", "dog-trot"]),
        ("train spin cheetah-run expert", ["spin-rl data make cheetah-run expert"]),
        ("train spin cheetah-run medium-exprt", ["'medium-exprt'", "Did you mean medium-expert?"]),
        ("train spin cheetah-run medium-expert --bins 7", ["no number of bins for cheetah-run '7'", "There is: 3"]),
        ("train spin cheetah-run medium-expert --preset smal", ["no preset 'smal'", "Did you mean small?", "paper"]),
        ("train saint cheetah-run medium-expert --objective ipl", ["no objective 'ipl'", "Did you mean iql?"]),
        ("train spin cheetah-run medium-expert --masking fixd", ["no masking 'fixd'", "Did you mean fixed?"]),
        ("train spin cheetah-run medium-expert --asm nowhere", ["'nowhere' is neither", "'spin-rl asm list'"]),
        ("pretrain cheetah-rnu medium-expert", ["no task 'cheetah-rnu'", "Did you mean cheetah-run?"]),
        ("pretrain cheetah-run medium", ["spin-rl data make cheetah-run medium"]),
        ("pretrain cheetah-run medium-expert --preset big", ["no preset 'big'", "There is: paper, small, tiny"]),
        ("pretrain cheetah-run medium-expert --precision float8", ["float32 or bfloat16, not 'float8'"]),
        ("pretrain cheetah-run medium-expert --masking odd", ["no masking 'odd'", "fixed, variable"]),
    ],
)
def test_what_there_is_not_is_named_with_what_there_is(refused, small_data, tmp_path, arguments, said):
    storage = tmp_path / "results"
    sentence = one_sentence(refused(*arguments.split(), *place(small_data, storage)))
    for part in said:
        assert part in sentence, sentence
    assert not list(storage.glob("*/trials"))


def test_evaluating_what_there_is_not_says_so(refused, tmp_path):
    assert "none at all" in one_sentence(refused("evaluate", "quickstrat", "--storage", tmp_path))


@pytest.mark.parametrize(
    "arguments",
    ["train spin cheetah-run", "train spin cheetah-run medium --updates 0", "pretrain cheetah-run medium --steps -1"],
)
def test_what_cannot_be_parsed_is_refused_with_the_usage(refused, arguments):
    assert "Usage: " in refused(*arguments.split())


def test_a_process_ends_with_the_sentence_and_code_2(small_data, tmp_path):
    command = [sys.executable, "-m", "spin_rl", "train", "spim", "cheetah-run", "medium-expert"]
    done = subprocess.run([*command, *place(small_data, tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("spin-rl: There is no algorithm 'spim'.")
    assert "Traceback" not in done.stderr


def test_help_is_quick_because_it_imports_nothing_heavy():
    for arguments in ("--help", "data --help", "asm --help", "trian"):
        done = subprocess.run([sys.executable, "-c", LOADED, *arguments.split()], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "[]", arguments


LOADED = """
import sys
from spin_rl.cli import main
try:
    main()
finally:
    heavy = {"torch", "ray", "mlflow", "pandas", "numpy", "rich"} & sys.modules.keys()
    print(sorted(heavy | {name for name in sys.modules if name.startswith("spin_rl.api")}))
"""


def commands(group: LazyGroup, *path: str) -> Iterator[tuple[tuple[str, ...], LazyCommand]]:
    """Every command below a group with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, LazyGroup):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


ROOT = typer.main.get_command(cli.app)
ALL = dict(commands(ROOT))


def test_the_lines_of_help_are_the_commands_own():
    for path, command in ALL.items():
        assert command.load().help.splitlines()[0] == command.line, path


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_shows_its_help(path):
    shown = CliRunner().invoke(cli.app, [*path, "--help"])
    assert shown.exit_code == 0, shown.output
    assert ALL[path].line.split()[0] in shown.output
    assert "--help" in shown.output


def test_help_lists_what_the_registries_hold():
    shown = "".join(CliRunner().invoke(cli.app, ["train", "--help"]).output.split())  # lines break at hyphens too
    for names in (METHODS, POLICY_OBJECTIVES, PRESETS):
        assert "".join(one_of(names).split()) in shown
    shown = " ".join(CliRunner().invoke(cli.app, ["sweep", "--help"]).output.split())
    assert all(name in shown for name in SWEEPS)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("trian", "Did you mean 'train'"),
        ("data mkae", "Did you mean 'make'?"),
        ("policy show", "No such command 'show'"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_nearest(refused, typed, said):
    assert said in refused(*typed.split())


def test_the_shell_completes_commands_and_options(monkeypatch, capfd):
    def completed(typed: str) -> list[str]:
        monkeypatch.setenv("_SPIN_RL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", f"spin-rl {typed}")
        monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" "))))
        monkeypatch.setattr(sys, "argv", ["spin-rl"])
        with pytest.raises(SystemExit):
            cli.main()
        return capfd.readouterr().out.split()

    assert completed("") == list(cli.COMMANDS)
    assert completed("asm ") == list(cli.ASM)
    assert completed("asm ver") == ["verify"]
    assert completed("asm gc --d") == ["--days", "--delete"]


def test_the_module_and_the_script_are_the_same_command():
    script = Path(sys.executable).with_name("spin-rl")
    programs = [[sys.executable, "-m", "spin_rl"], *([[str(script)]] if script.exists() else [])]
    for arguments in (["--help"], ["data", "make"], ["nothing"]):
        runs = [subprocess.run([*program, *arguments], capture_output=True, text=True) for program in programs]
        assert all(run.stdout + run.stderr == runs[0].stdout + runs[0].stderr for run in runs)
        assert all(run.returncode == runs[0].returncode for run in runs)
        assert "spin-rl" in runs[0].stdout + runs[0].stderr


def test_a_model_is_pretrained_once_and_found(monkeypatch, capfd, small_data, tmp_path):
    command = "spin-rl pretrain cheetah-run medium-expert --preset tiny --steps 3 --steps 0"
    printed = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", [*command.split(), *place(small_data, tmp_path)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        printed.append([line for line in capfd.readouterr().out.splitlines() if line.startswith(("/", "step"))])
    assert printed[0] == printed[1]
    folders = [Path(line) for line in printed[0] if line.startswith("/")]
    assert [folder.name for folder in folders] == ["step-000000003", "step-000000000"]
    assert all((folder / "model.safetensors").exists() for folder in folders)


def test_a_training_whose_trial_failed_says_why_and_does_not_end_well(monkeypatch, capfd, small_data, tmp_path):
    def run_plan(plan, storage, **_options):
        folder = storage / plan.name
        write_trial(folder, "a", params("spin", 0))
        error = "Traceback ...\nDivergedError: critic_loss became nan in update 7; try a smaller learning rate."
        write_trial(folder, "b", params("spin", 1), state="failed", error=error)
        return folder

    monkeypatch.setattr(running, "run_plan", run_plan)
    monkeypatch.setattr(running, "ray_session", nullcontext)
    command = ["spin-rl", "train", "factored", "cheetah-run", "medium-expert", "--preset", "tiny"]
    monkeypatch.setattr(sys, "argv", [*command, *place(small_data, tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert (
        "1 trials failed, the first with: DivergedError: critic_loss became nan in update 7" in capfd.readouterr().out
    )


def test_ray_may_be_imported_before_us():
    """It reads its settings then; what is set later would make its parts disagree, and no session would start."""
    script = "import os{}; import spin_rl.platform.common.ray_session; print(os.environ.get('RAY_AUTH_MODE'))"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    for first, mode in (("", "token"), (", ray", "None")):
        command = [sys.executable, "-c", script.format(first)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == mode
