"""The registry of methods: every entry can be built, named and drawn."""

import keyword
from dataclasses import fields

import pytest
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from spin_rl.algorithms.asm.model import ASMSizes
from spin_rl.algorithms.methods import METHODS
from spin_rl.algorithms.objectives import get_objective
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.presets import get_preset
from spin_rl.errors import UserError

each_method = pytest.mark.parametrize("name", METHODS)


@each_method
def test_an_entry_names_objectives_that_need_what_it_builds(name):
    method = METHODS[name]
    assert method.name == name
    assert method.objectives
    for objective in method.objectives:
        method.check_objective(objective)
        assert get_objective(objective).needs_policy == (method.build is not None)
    with pytest.raises(UserError, match=f"{name} is trained with {method.objectives[0]}.*, not with pretraining"):
        method.check_objective("pretraining")


@each_method
def test_a_policy_that_starts_from_a_model_says_so_and_others_refuse_one(name):
    method = METHODS[name]
    if method.build is None:
        pytest.skip("has no policy")
    policy = method.build(4, (3, 2), get_preset("tiny"))
    assert isinstance(policy, Policy)
    assert policy.nvec == (3, 2)
    starts = type(policy).start_from is not Policy.start_from
    assert starts or method.pretrained in (None, "bc")
    assert (method.pretrained == "bc") == bool(method.cloned)
    if not starts:
        with pytest.raises(NotImplementedError, match=f"{type(policy).__name__} starts from no pretrained model"):
            policy.start_from(None)
    assert set(method.sizes) <= {field.name for field in fields(ASMSizes)}


def test_names_and_looks_tell_methods_apart():
    for attribute in ("name", "label", "class_name", "description", "look"):
        assert len({getattr(method, attribute) for method in METHODS.values()}) == len(METHODS), attribute
    for method in METHODS.values():
        assert method.class_name.isidentifier()
        assert not keyword.iskeyword(method.class_name)
        color, line, marker = method.look
        Line2D([], [], color=to_rgb(color), linestyle=line, marker=marker)


def test_the_papers_methods_train_with_iql_unless_told_otherwise():
    for name in ("spin", "saint", "factored", "autoregressive"):
        assert METHODS[name].objectives[:3] == ("iql", "awac", "bcq")
