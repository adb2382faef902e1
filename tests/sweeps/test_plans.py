"""Spaces, their plans, and where plans are kept."""

from pathlib import Path

import pytest

from spin_rl.algorithms.methods import METHODS
from spin_rl.algorithms.presets import get_preset
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import asm_root
from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.platform.datasets import open_dataset
from spin_rl.sweeps.planning.evaluations import evaluation_interval
from spin_rl.sweeps.planning.models import asm_config, masking_of
from spin_rl.sweeps.planning.plan import read_plan, write_plan
from spin_rl.sweeps.planning.search import search_plan
from spin_rl.sweeps.planning.space import PARAMETERS, Space, points
from spin_rl.sweeps.planning.sweep import Sweep
from spin_rl.sweeps.quickstart import quickstart_plan
from spin_rl.sweeps.registry import get_sweep
from spin_rl.sweeps.running.completion import open_trials
from spin_rl.sweeps.running.opening import open_sweep

ONE = {
    "seed": (0, 1),
    "task": ("cheetah-run",),
    "bins": (3,),
    "level": ("medium-expert",),
    "algorithm": ("factored", "spin"),
    "objective": ("iql",),
    "preset": ("tiny",),
    "updates": (4,),
    "evaluations": (2,),
    "episodes": (1,),
    "asm_steps": (0, 20),
}
SWEEP = Sweep("mine", "What comes of it?", ONE)


def plan_of(data: Path, tmp_path: Path, sweep: Sweep = SWEEP, changes: Space | None = None):
    return sweep.plan(sweep.resolve(changes or {}), str(data), asm_root(tmp_path))


def test_a_method_that_starts_from_no_model_is_trained_once_for_all_of_them():
    found = [(p["seed"], p["algorithm"], p.get("asm_steps")) for p in points(ONE)]
    one_seed = [("factored", None), ("spin", 0), ("spin", 20)]
    assert found == [(seed, *rest) for seed in (0, 1) for rest in one_seed]  # whole seeds, one after the other


def test_settings_of_an_objective_vary_only_where_it_is_used():
    space = ONE | {"seed": (0,), "algorithm": ("factored",), "objective": ("iql", "bcq"), "expectile": (0.7, 0.9)}
    found = [(p["objective"], p.get("expectile")) for p in points(space)]
    assert found == [("iql", 0.7), ("iql", 0.9), ("bcq", None)]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (("iql",), [("factored", "iql"), ("decqn-iql", "decqn-iql")]),
        (("iql", "bcq"), [("factored", "iql"), ("factored", "bcq"), ("decqn-iql", "decqn-iql")]),
        (("decqn-iql", "bcq"), [("factored", "bcq"), ("decqn-iql", "decqn-iql")]),
        (("decqn-iql",), [("factored", "decqn-iql"), ("decqn-iql", "decqn-iql")]),  # the first of which is refused
    ],
)
def test_a_method_that_cannot_take_an_objective_is_trained_once_with_its_own(small_data, tmp_path, given, found):
    changes = {"seed": (0,), "algorithm": ("factored", "decqn-iql"), "objective": given, "asm_steps": (20,)}
    assert [(p["algorithm"], p["objective"]) for p in points(ONE | changes)] == found
    if given == ("decqn-iql",):
        with pytest.raises(UserError, match=r"factored is trained with iql or awac or bcq.*, not with decqn-iql"):
            plan_of(small_data, tmp_path, changes=changes)
        return
    plan = plan_of(small_data, tmp_path, changes=changes)
    assert [(trial["algorithm"], trial["objective"]) for trial in plan.trials] == found
    search = search_plan(SWEEP, ONE | changes | {"lr": (1e-3, 1e-4)}, str(small_data), asm_root(tmp_path)).search
    assert [(problem["algorithm"], problem["objective"]) for problem in search["problems"]] == found


def test_settings_of_a_methods_own_objective_vary_with_it():
    space = ONE | {"seed": (0,), "algorithm": ("factored", "decqn-iql"), "objective": ("bcq",), "expectile": (0.5, 0.7)}
    found = [(p["algorithm"], p["objective"], p.get("expectile")) for p in points(space)]
    assert found == [("factored", "bcq", None), ("decqn-iql", "decqn-iql", 0.5), ("decqn-iql", "decqn-iql", 0.7)]


def test_sizes_vary_one_at_a_time_around_the_presets():
    space = ONE | {"seed": (0,), "algorithm": ("saint",), "width": (16, 32), "layers": (1, 2), "head_width": (8,)}
    found = [(p["width"], p["layers"], p["head_width"]) for p in points(space, ("width", "layers", "head_width"))]
    assert found == [(16, 1, 16), (32, 1, 16), (16, 2, 16), (16, 1, 8)]


def test_a_plan_pretrains_each_model_once_and_to_the_longest(small_data, tmp_path):
    plan = plan_of(small_data, tmp_path)
    assert [(item.config.seed, item.steps) for item in plan.pretrainings] == [(0, (0, 20)), (1, (0, 20))]
    asm = [trial["asm"] for trial in plan.trials if "asm" in trial]
    assert len(set(asm)) == 4
    assert all(trial["evaluate_every"] == trial["updates_per_iteration"] == 2 for trial in plan.trials)


def test_sizes_go_to_the_model_and_to_the_policy_but_the_heads_to_the_policy_alone(small_data, tmp_path):
    sweep = Sweep("sizes", "?", ONE | {"seed": (0,), "algorithm": ("spin",), "asm_steps": (20,)})
    plan = plan_of(small_data, tmp_path, sweep, {"width": (16, 32), "head_width": (8, 16)})
    assert len(plan.trials) == 4
    assert sorted(item.config.sizes.width for item in plan.pretrainings) == [16, 32]
    assert {item.config.sizes.head_width for item in plan.pretrainings} == {16}
    for trial in plan.trials:
        assert trial["network"]["asm"] == {"width": trial["width"], "head_width": trial["head_width"]}


def test_epochs_are_steps_of_the_dataset_they_are_made_on(small_data, tmp_path):
    plan = plan_of(small_data, tmp_path, changes={"asm_epochs": (0, 3)})
    assert sorted({trial["asm_steps"] for trial in plan.trials if "asm" in trial}) == [0, 3 * 2]  # 2,000 by 1,024


def test_ids_and_names_are_functions_of_the_plan(small_data, tmp_path):
    plan, again = plan_of(small_data, tmp_path), plan_of(small_data, tmp_path)
    assert plan.name == "mine"
    assert list(plan.by_id()) == list(again.by_id())
    other = plan_of(small_data, tmp_path, changes={"updates": (6,)})
    assert other.name.startswith("mine-")
    assert not set(other.by_id()) & set(plan.by_id())


def test_a_plan_comes_back_from_its_folder_as_it_was(small_data, tmp_path):
    plan = plan_of(small_data, tmp_path)
    write_plan(tmp_path, plan)
    kept = read_plan(tmp_path)
    assert kept == plan
    assert list(kept.by_id()) == list(plan.by_id())
    assert read_plan(tmp_path / "elsewhere") is None
    (tmp_path / "plan.json").write_text('{"name": "x"}')
    with pytest.raises(UserError, match="holds no plan"):
        read_plan(tmp_path)


def test_what_is_done_is_not_planned_again(small_data, tmp_path):
    plan = plan_of(small_data, tmp_path)
    folder = open_sweep(plan, tmp_path)
    ids = list(plan.by_id())
    for trial_id, state in zip(ids, ["finished", "failed", "killed", "pruned"], strict=False):
        write_json(folder / "trials" / trial_id / "trial.json", {"trial_id": trial_id, "state": state})
    assert list(open_trials(folder, plan)) == [ids[1], ids[2], *ids[4:]]


def test_a_sweep_records_how_its_methods_are_shown(small_data, tmp_path):
    folder = open_sweep(plan_of(small_data, tmp_path), tmp_path)
    methods = read_json(folder / "sweep.json")["methods"]
    assert list(methods) == [name for name in METHODS if name in ("factored", "spin")]
    assert {name: shown["label"] for name, shown in methods.items()} == {"spin": "SPIN", "factored": "Factored"}


def test_a_folder_takes_no_other_plan(small_data, tmp_path):
    open_sweep(plan_of(small_data, tmp_path), tmp_path)
    other = plan_of(small_data, tmp_path, changes={"updates": (6,)}).named("mine")
    with pytest.raises(UserError, match=r"with other settings \(.*updates.*\); give this one another name"):
        open_sweep(other, tmp_path)


@pytest.mark.parametrize(
    ("updates", "evaluations", "interval"), [(10_000, 20, 500), (1000, 6, 200), (4, 2, 2), (7, 7, 1), (3000, 6, 500)]
)
def test_the_last_evaluation_comes_at_the_end(updates, evaluations, interval):
    assert evaluation_interval(updates, evaluations) == interval


def test_the_quickstart_makes_the_updates_that_were_asked_for(small_data, tmp_path):
    dataset = open_dataset("cheetah-run", "medium-expert", root=small_data)
    plan = quickstart_plan(dataset, str(small_data), asm_root(tmp_path), updates=1000, episodes=2, seeds=(4,))
    found = {(trial["updates"], trial["evaluate_every"], trial["evaluation_episodes"]) for trial in plan.trials}
    assert found == {(1000, 200, 2)}
    with pytest.raises(UserError, match="make 1,008 updates"):
        quickstart_plan(dataset, str(small_data), asm_root(tmp_path), updates=1009)


def test_budgets_that_hold_no_evaluation_are_refused(small_data, tmp_path):
    with pytest.raises(UserError, match="5 updates is smaller"):
        evaluation_interval(5, 6)
    with pytest.raises(UserError, match="make 1,008 updates"):
        evaluation_interval(1009, 6)
    plan = plan_of(small_data, tmp_path)
    trial = {**plan.trials[0], "updates": 500, "evaluate_every": 1000}
    with pytest.raises(UserError, match=r"500 updates does not end with an evaluation.*make 1,000 updates"):
        open_sweep(type(plan)("short", "", (trial,)), tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"expectil": (1,)}, "no parameter 'expectil'. Did you mean expectile?"),
        ({"seed": ()}, "The space is empty: seed has no value"),
        ({"asm_steps": (-1,)}, "asm_steps is a whole number from 0 on, not -1"),
        ({"updates": (2.5,)}, "updates is a whole number from 1 on, not 2.5"),
        ({"seed": (0, 0)}, "seed has the same value twice"),
        ({"asm_masking": ("varable",)}, "Did you mean variable?"),
        ({"lr": (1e-3, "fast")}, "lr is a number"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(changes, said):
    with pytest.raises(UserError) as raised:
        SWEEP.resolve(changes)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algorithm": ("spim",)}, "no algorithm 'spim'. Did you mean spin?"),
        ({"objective": ("iqk",)}, "no objective 'iqk'"),
        ({"preset": ("smal",)}, "no preset 'smal'"),
        ({"task": ("cheetah-rnu",)}, "no task 'cheetah-rnu'"),
        ({"level": ("expert",)}, "spin-rl data make cheetah-run expert"),
        ({"version": (7,)}, "no version 7"),
        ({"width": (18,), "heads": (4,)}, "The width (18) must be a multiple of the number of heads (4)"),
        ({"objective": ("bcq",), "expectile": (0.7, 0.8)}, "No trial takes expectile"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(small_data, tmp_path, changes, said):
    with pytest.raises(UserError) as raised:
        plan_of(small_data, tmp_path, changes=changes)
    assert said in str(raised.value)


@pytest.mark.parametrize("name", ["pretraining-length", "head-size", "masking", "baselines"])
def test_every_sweep_is_whole_at_both_of_its_sizes(name):
    sweep = get_sweep(name)
    assert sweep.name == name
    assert sweep.analysis is not None
    for tiny in (False, True):
        space = sweep.resolve({}, tiny=tiny)
        assert set(space) <= set(PARAMETERS)
        found = list(points(space, sweep.one_at_a_time))
        assert len({point["algorithm"] for point in found}) > 1
        assert any(point["algorithm"] == "factored" for point in found)  # sets the target
    assert len(found) < 10  # tiny


def test_a_sweep_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("SWEEP = 3")
    for name, said in (
        ("pretraining-lenght", "Did you mean pretraining-length?"),
        (str(tmp_path / "no.py"), "There is no file"),
        (str(path), "defines no SWEEP"),
    ):
        with pytest.raises(UserError, match=said):
            get_sweep(name)
    path.write_text("import nothing_of_the_kind")
    with pytest.raises(UserError, match="ModuleNotFoundError"):
        get_sweep(str(path))


def test_the_published_pretraining_is_the_default_of_the_paper_preset_only():
    published = asm_config("paper", 0)
    assert (published.masking.variable, published.masking.rate, published.precision) == (False, 0.15, "float32")
    quick = asm_config("small", 0)
    assert (quick.masking.variable, quick.precision) == (True, "bfloat16")
    asked = asm_config("paper", 0, masking=masking_of("paper", "variable"), precision="bfloat16")
    assert (asked.masking.variable, asked.precision) == (True, "bfloat16")


CLONES = ONE | {"seed": (0,), "algorithm": ("factored", "spin", "factored-bc", "bpr")}


def test_a_clone_is_made_as_long_as_a_model_unless_it_has_a_length_of_its_own():
    found = [(p["algorithm"], p.get("asm_steps"), p.get("clone_steps")) for p in points(CLONES)]
    assert found == [
        ("factored", None, None),
        *[(method, steps, None) for method in ("spin", "factored-bc", "bpr") for steps in (0, 20)],
    ]
    found = [(p["algorithm"], p.get("asm_steps"), p.get("clone_steps")) for p in points(CLONES | {"clone_steps": (7,)})]
    assert found[1:] == [("spin", 0, None), ("spin", 20, None), ("factored-bc", None, 7), ("bpr", None, 7)]


def test_methods_that_start_from_the_same_network_share_its_clone(small_data, tmp_path):
    sweep = Sweep("clones", "?", CLONES)
    plan = plan_of(small_data, tmp_path, sweep)
    assert [(item.config.label, item.steps) for item in plan.pretrainings] == [
        ("ASM", (0, 20)),
        ("clone of factored", (0, 20)),
    ]
    trials = {(trial["algorithm"], trial.get("clone_steps")): trial for trial in plan.trials if "clone" in trial}
    assert len(trials) == 4
    assert trials["bpr", 20]["clone"] == trials["factored-bc", 20]["clone"] != trials["bpr", 0]["clone"]
    assert not any(name.startswith("asm") for trial in trials.values() for name in trial)
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan


def test_a_clone_has_the_sizes_of_its_trial(small_data, tmp_path):
    sweep = Sweep("clones", "?", CLONES | {"algorithm": ("factored-bc", "bpr", "saint-bc"), "asm_steps": (5,)})
    plan = plan_of(small_data, tmp_path, sweep, {"policy_width": (24,), "head_width": (8,), "width": (32,)})
    sizes = {item.config.network: item.config.preset for item in plan.pretrainings}
    assert sizes["factored"].policy_width == 24
    assert (sizes["saint"].asm.width, sizes["saint"].asm.head_width) == (32, 8)
    assert sizes["factored"].asm == get_preset("paper").asm  # bpr's heads are not cloned


def test_a_clone_needs_a_length(small_data, tmp_path):
    space = {name: values for name, values in CLONES.items() if name != "asm_steps"}
    sweep = Sweep("clones", "?", space | {"algorithm": ("bpr",)})
    with pytest.raises(UserError, match="bpr needs clone_steps or clone_epochs"):
        plan_of(small_data, tmp_path, sweep)
    plan = plan_of(small_data, tmp_path, sweep, {"clone_epochs": (3,)})
    assert [trial["clone_steps"] for trial in plan.trials] == [3 * 2]
