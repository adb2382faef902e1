"""Names, digests and ids of the shipped plans: results that exist are found by them, so they must not change."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from spin_rl.sweeps.planning import builder
from spin_rl.sweeps.planning.models import asm_config, masking_of
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.planning.training import training_plan
from spin_rl.sweeps.quickstart import quickstart_plan
from spin_rl.sweeps.registry import SWEEPS, get_sweep

ROOT, ASM_ROOT = "data", Path("results/asm")


class Dataset:
    """A dataset of 2,000 transitions whose digest is a function of its name, on every machine."""

    def __init__(self, task, level, *, bins, root, version=None):
        assert root == ROOT
        place = f"{task}-{bins}/{level}-v{version or 1}"
        self.meta = SimpleNamespace(task=task, bins=bins, level=level, version=version or 1, key=place)
        self.meta.digest = f"digest-of-{task}-{bins}-{level}"

    def __len__(self) -> int:
        return 2000


@pytest.fixture(autouse=True)
def _datasets(monkeypatch):
    monkeypatch.setattr(builder, "open_dataset", Dataset)


def identity_of(plan: SweepPlan) -> tuple[str, object, str, int]:
    ids = list(plan.by_id())
    return plan.name, plan.summary()["plan"], ids[0], len(ids)


@pytest.mark.parametrize(
    ("name", "tiny", "expected"),
    [
        ("pretraining-length", True, ("pretraining-length-ceceb9", "ceceb9d31aefcafb", "ceceb_00000", 3)),
        ("pretraining-length", False, ("pretraining-length", "bd1d5462291749ae", "bd1d5_00000", 21)),
        ("head-size", True, ("head-size-eb3ba8", "eb3ba81377d76307", "eb3ba_00000", 4)),
        ("head-size", False, ("head-size", "0c6df8ad27381d1d", "0c6df_00000", 24)),
        ("stop-time", True, ("stop-time-401499", "e42b420aab7c2522", "f7771_00000", 6)),
        ("stop-time", False, ("stop-time", "ed375eeca67b823f", "5a480_00000", 24)),
        ("masking", True, ("masking-0bc4a3", "0bc4a3169d128a3b", "0bc4a_00000", 6)),
        ("masking", False, ("masking", "f32d471297f55063", "f32d4_00000", 45)),
        ("baselines", True, ("baselines-6c0b13", "6c0b137cfdef37f7", "6c0b1_00000", 4)),
        ("baselines", False, ("baselines", "058f772f7b6aa51e", "058f7_00000", 216)),
    ],
)
def test_a_shipped_sweep_is_found_by_its_name_and_ids(name, tiny, expected):
    sweep = get_sweep(name)
    assert identity_of(sweep.plan(sweep.resolve({}, tiny=tiny), ROOT, ASM_ROOT)) == expected


def test_every_shipped_sweep_goes_by_its_own_name():
    assert [sweep.name for sweep in SWEEPS.values()] == list(SWEEPS)
    assert list(SWEEPS) == ["pretraining-length", "head-size", "stop-time", "masking", "baselines"]


def test_the_quickstart_is_found_by_its_name_and_ids():
    dataset = Dataset("cheetah-run", "medium-expert", bins=3, root=ROOT)
    changes = {"seeds": (3,), "updates": 2, "asm_steps": 20, "episodes": 1, "preset": "tiny"}
    assert identity_of(quickstart_plan(dataset, ROOT, ASM_ROOT)) == (
        "quickstart-4fd5df",  # the dataset is not of the quickstart's size
        "4fd5df61013bc274",
        "4fd5d_00000",
        8,
    )
    assert identity_of(quickstart_plan(dataset, ROOT, ASM_ROOT, **changes)) == (
        "quickstart-4f63d4",
        "4f63d4e719613970",
        "4f63d_00000",
        4,
    )


def test_a_training_is_found_by_its_name_and_ids():
    masking = masking_of("small", "fixed", rate=0.3, mask=0.7, randomise=0.2, fully_masked=0.2)
    plan = training_plan(
        name="mine",
        description="",
        algorithms=("finetune",),
        objective="iql",
        task="cheetah-run",
        level="medium-expert",
        bins=3,
        version=3,
        root=ROOT,
        asm_root=ASM_ROOT,
        pretraining={0: asm_config("small", 0, objective="vam", masking=masking, precision="float32")},
        asm_steps=11,
        preset="small",
        updates=10_000,
        evaluate_every=1000,
        episodes=10,
        settings={"expectile": 0.9, "lr": 0.001, "critic_width": 32, "network": {"asm": {"width": 128}}},
    )
    assert identity_of(plan) == ("mine", "a2035874f2e10837", "a2035_00000", 1)
    assert plan.named_by_content("finetune-cheetah-run").name == "finetune-cheetah-run-a20358"
    (trial,) = plan.trials
    assert (trial["evaluate_every"], trial["updates_per_iteration"]) == (1000, 1000)
    assert [(item.config.masking.rate, item.steps) for item in plan.pretrainings] == [(0.3, (11,))]


def test_a_search_keeps_its_digest_when_it_gets_more_points():
    sweep = get_sweep("stop-time")
    plan = sweep.plan(sweep.resolve({}, tiny=True), ROOT, ASM_ROOT)
    more = SweepPlan(plan.name, "", plan.trials, search={**plan.search, "points": 40})
    other = SweepPlan(plan.name, "", plan.trials, search={**plan.search, "seed": 1})
    assert more.summary()["plan"] == plan.summary()["plan"] != other.summary()["plan"]
