"""What trains and what does not, method by method: every parameter and buffer is listed here."""

import pytest
import torch

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.networks.freezing import trainable
from tests.algorithms.toy_agent import make_agent

CPU = torch.device("cpu")
TRUNK = {
    f"trunk.blocks.0.{name}.{kind}"
    for name in ("attention_norm", "query_key_value", "out", "ffn_norm", "ffn.0", "ffn.3")
    for kind in ("weight", "bias")
} | {f"state_encoder.net.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}
HEADS = {f"heads.{layer}.{kind}" for layer in ("inner", "outer") for kind in ("weight", "bias")}
LIGHT = {"queries"} | HEADS
STUDENT = {f"student.{layer}.{kind}" for layer in ("state", "inner", "outer") for kind in ("weight", "bias")} | {
    "student.query.weight"
}
FACTORED = {f"{layer}.{kind}" for layer in ("body.0", "body.3", "heads") for kind in ("weight", "bias")}
FILM = {"slots"} | {
    f"{layer}.{kind}"
    for layer in (
        *("film.0", "film.2", "heads.layers.0", "heads.layers.1"),
        *(f"blocks.0.{name}" for name in ("query_key_value", "attention_norm", "ffn.0", "ffn.2", "ffn.4", "ffn_norm")),
    )
    for kind in ("weight", "bias")
}
MASKED = {f"model.{name}" for name in TRUNK | HEADS | {"embeddings.weight"}}
AUTOREGRESSIVE = {"state.weight", "state.bias", "tokens.weight", "heads.weight", "heads.bias"} | {
    f"lstm.{kind}_{gate}_l{layer}" for kind in ("weight", "bias") for gate in ("ih", "hh") for layer in (0, 1)
}


@pytest.mark.parametrize("trunk_dropout", [True, False])
@pytest.mark.parametrize(
    ("method", "trains", "frozen"),
    [
        ("spin", LIGHT, TRUNK),
        ("spin-cached", HEADS, TRUNK),
        ("spin-distill", HEADS, STUDENT),
        ("finetune", LIGHT | TRUNK, set()),
        ("saint", LIGHT | TRUNK, set()),
        ("saint-film", FILM, set()),
        ("saint-film-matched", FILM, set()),
        ("spin-decode", MASKED, set()),
        ("factored", FACTORED, set()),
        ("autoregressive", AUTOREGRESSIVE, set()),
    ],
)
def test_what_is_listed_as_training_moves_and_nothing_else(toy, asm_folder, method, trains, frozen, trunk_dropout):
    agent, data = make_agent(method, asm_folder, trunk_dropout=trunk_dropout), DeviceTransitions(toy, CPU)
    agent.prepare(data)
    parameters = dict(agent.policy.named_parameters())
    assert parameters.keys() == trains | frozen
    assert {name for name, parameter in parameters.items() if parameter.requires_grad} == trains
    assert {id(parameter) for parameter in trainable(agent.policy)} == {id(parameters[name]) for name in trains}
    stepped = {
        id(p) for step in agent.objective.optimizers.values() for g in step.optimizer.param_groups for p in g["params"]
    }
    assert not stepped & {id(parameters[name]) for name in frozen}

    before = {name: value.clone() for name, value in parameters.items()}
    buffers = {name: value.clone() for name, value in agent.policy.named_buffers()}
    agent.train(data, 12)
    moved = {name for name, value in agent.policy.named_parameters() if not torch.equal(value, before[name])}
    assert moved == trains
    assert all(torch.equal(value, buffers[name]) for name, value in agent.policy.named_buffers())
    assert all(parameters[name].grad is None for name in frozen)


def test_spin_starts_from_the_pretrained_weights_and_keeps_them(toy, asm_folder):
    asm = load_asm(asm_folder).state_dict()
    agent = make_agent("spin", asm_folder)
    agent.train(DeviceTransitions(toy, torch.device("cpu")), 12)
    mine = agent.policy.state_dict()
    assert all(torch.equal(mine[name], asm[name]) for name in TRUNK)
    scratch = make_agent("saint", asm_folder).policy.state_dict()
    assert not any(torch.equal(scratch[name], asm[name]) for name in TRUNK if "weight" in name and "norm" not in name)


@pytest.mark.parametrize("trunk_dropout", [True, False])
def test_dropout_in_the_frozen_trunk_is_a_setting(asm_folder, trunk_dropout):
    policy = make_agent("spin", asm_folder, trunk_dropout=trunk_dropout).policy
    for _ in range(2):
        policy.train()
        assert all(module.training == trunk_dropout for module in policy.trunk.modules())
        assert all(module.training for module in policy.heads.modules())
        policy.eval()
        assert not any(module.training for module in policy.modules())
    observation = torch.randn(4, 3)
    policy.train()
    policy.heads.eval()
    noisy = not torch.equal(policy.logits(observation), policy.logits(observation))
    assert noisy == trunk_dropout


def test_saint_always_trains_with_dropout(asm_folder):
    policy = make_agent("saint", asm_folder, trunk_dropout=False).policy
    assert policy.train().trunk.training


def test_gradients_flow_through_the_frozen_trunk_to_every_query(asm_folder):
    policy = make_agent("spin", asm_folder).policy.eval()
    policy.log_probs(torch.randn(4, 3), torch.tensor([[0, 1, 2]]).expand(4, -1))[:, 0].sum().backward()
    assert bool((policy.queries.grad.abs().sum(-1) > 0).all())  # the others' through attention alone
