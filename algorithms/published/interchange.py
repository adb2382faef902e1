"""State dicts in the layout of the published SPIN implementation, both ways (names and shapes only; none of its code).

    action structure model                                        policy
    core_transformer.state_encoder.{0,2}.*                        state_encoder.{0,2}.*
    core_transformer.sub_action_value_embeddings.<i>.weight       slot_embeddings
    core_transformer.transformer_blocks.<l>.mab.<part>.*          blocks.<l>.mab.<part>.*
    prediction_heads.<i>.{0,3}.*                                  heads.<i>.{0,3}.*

with the parts ln_q, ln_kv, fc_q, fc_k, fc_v, out_proj, ffn_ln, ffn.0 and ffn.3. There a block normalises queries and
keys with separate parameters and projects them separately; here it does so once. A LayerNorm's scale and shift are
linear, so they fold into the projections behind them: the function is the same both ways.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from spin_rl.algorithms.asm.files import ASMShape
from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.networks.layers import SubActionHeads
from spin_rl.algorithms.networks.trunk import Block
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.policies.cached import CachedPolicy
from spin_rl.algorithms.policies.slots import SlotPolicy
from spin_rl.algorithms.published.layout import ASM, POLICY, Layout, Tensors, checked
from spin_rl.errors import UserError

Network = ActionStructureModel | SlotPolicy | CachedPolicy
"""What has a state encoder, a trunk and heads."""


def import_asm(tensors: Tensors, *, heads: int = 4, dropout: float = 0.1) -> ActionStructureModel:
    """The action structure model of a published state dict, in evaluation mode.

    Args:
        tensors: the state dict; its shapes imply everything but the next two.
        heads: attention heads, which leave no trace in the shapes.
        dropout: the rate for further training.

    Raises:
        UserError: keys or shapes are not the layout's.
    """
    tensors, shape = checked(tensors, ASM, heads, dropout)
    model = ActionStructureModel(*shape)
    names = [f"{ASM.tables}.{index}.weight" for index in range(len(shape.nvec))]
    with torch.no_grad():
        model.embeddings.weight.copy_(torch.cat([tensors[name] for name in names]))
        _load(model, tensors, ASM)
    return model.eval()


def export_asm(model: ActionStructureModel) -> dict[str, Tensor]:
    """The state dict of ``model`` in the published layout."""
    tables = model.embeddings.weight.split([choices + 1 for choices in model.nvec])
    named = {f"{ASM.tables}.{index}.weight": table for index, table in enumerate(tables)}
    return _plain({**named, **_save(model, ASM)})


def import_policy(tensors: Tensors, *, heads: int = 4, dropout: float = 0.1) -> tuple[SlotPolicy, ASMShape]:
    """The policy of a published state dict, in evaluation mode, and what it is built from; see ``import_asm``."""
    tensors, shape = checked(tensors, POLICY, heads, dropout)
    policy = SlotPolicy(*shape)
    with torch.no_grad():
        policy.queries.copy_(tensors[POLICY.tables])
        _load(policy, tensors, POLICY)
    return policy.eval(), shape


def export_policy(policy: Policy) -> dict[str, Tensor]:
    """The state dict of ``policy`` in the published layout; UserError where it has another architecture."""
    if not isinstance(policy, SlotPolicy | CachedPolicy):
        raise UserError(
            f"The published layout is one of queries through a transformer trunk; a {type(policy).__name__} has none: "
            "export a policy of spin, spin-cached, finetune or saint."
        )
    return _plain({POLICY.tables: policy.queries, **_save(policy, POLICY)})


class _Linear(NamedTuple):
    weight: Tensor  # (outputs, inputs)
    bias: Tensor  # (outputs,)


def _save(module: Network, layout: Layout) -> dict[str, Tensor]:
    """State encoder, blocks and heads of ``module`` under their published names."""
    first, second = _encoder_layers(module)
    layers: dict[str, nn.Module | _Linear] = {f"{layout.state_encoder}.0": first, f"{layout.state_encoder}.2": second}
    for index, block in enumerate(_blocks(module)):
        projections = zip(*(x.chunk(3) for x in _linear(block.query_key_value)), strict=True)  # 3 D -> D, D, D
        parts: dict[str, nn.Module | _Linear] = {
            "ln_q": block.attention_norm,
            "ln_kv": block.attention_norm,
            **dict(zip(("fc_q", "fc_k", "fc_v"), (_Linear(*one) for one in projections), strict=True)),
            "out_proj": block.out,
            "ffn_ln": block.ffn_norm,
            "ffn.0": block.ffn[0],
            "ffn.3": block.ffn[3],
        }
        layers |= {f"{layout.blocks}.{index}.mab.{name}": part for name, part in parts.items()}
    for index, choices in enumerate(module.nvec):
        inner, outer = module.heads.inner, module.heads.outer  # weights (N, inputs, outputs), biases (N, 1, outputs)
        layers[f"{layout.heads}.{index}.0"] = _Linear(inner.weight[index].T, inner.bias[index, 0])
        layers[f"{layout.heads}.{index}.3"] = _Linear(
            outer.weight[index, :, :choices].T, outer.bias[index, 0, :choices]
        )
    return {f"{name}.{key}": getattr(layer, key) for name, layer in layers.items() for key in ("weight", "bias")}


def _load(module: Network, tensors: Tensors, layout: Layout) -> None:
    """Fill state encoder, blocks and heads of ``module`` from their published names."""

    def put(layer: nn.Module, name: str) -> None:
        layer.load_state_dict({key: tensors[f"{name}.{key}"] for key in ("weight", "bias")})

    for layer, number in zip(_encoder_layers(module), (0, 2), strict=True):
        put(layer, f"{layout.state_encoder}.{number}")
    for index, block in enumerate(_blocks(module)):
        name = f"{layout.blocks}.{index}.mab"
        folded = [
            _fold(tensors, f"{name}.{norm}", f"{name}.{projection}")
            for norm, projection in (("ln_q", "fc_q"), ("ln_kv", "fc_k"), ("ln_kv", "fc_v"))
        ]
        block.query_key_value.weight.copy_(torch.cat([one.weight for one in folded]))
        block.query_key_value.bias.copy_(torch.cat([one.bias for one in folded]))
        nn.init.ones_(block.attention_norm.weight)
        nn.init.zeros_(block.attention_norm.bias)
        put(block.out, f"{name}.out_proj")
        put(block.ffn_norm, f"{name}.ffn_ln")
        put(block.ffn[0], f"{name}.ffn.0")
        put(block.ffn[3], f"{name}.ffn.3")
    heads: SubActionHeads = module.heads
    for parameter in heads.parameters():
        nn.init.zeros_(parameter)  # what pads ragged heads is masked, and need not be what chance made it
    for index, choices in enumerate(module.nvec):
        name = f"{layout.heads}.{index}"
        heads.inner.weight[index] = tensors[f"{name}.0.weight"].T
        heads.inner.bias[index, 0] = tensors[f"{name}.0.bias"]
        heads.outer.weight[index, :, :choices] = tensors[f"{name}.3.weight"].T
        heads.outer.bias[index, 0, :choices] = tensors[f"{name}.3.bias"]


def _fold(tensors: Tensors, norm: str, projection: str) -> _Linear:
    """W (g n + b) + c = (W g) n + (W b + c): a LayerNorm's scale g and shift b, taken into the projection behind it."""
    scale, shift, weight, bias = (
        tensors[f"{name}.{key}"].double() for name in (norm, projection) for key in ("weight", "bias")
    )
    return _Linear(weight * scale, weight @ shift + bias)


def _encoder_layers(module: Network) -> tuple[nn.Linear, nn.Linear]:
    first, _, second = module.state_encoder.net
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    return first, second


def _blocks(module: Network) -> list[Block]:
    return [block for block in module.trunk.blocks if isinstance(block, Block)]


def _linear(layer: nn.Linear) -> _Linear:
    return _Linear(layer.weight, layer.bias)


def _plain(tensors: Tensors) -> dict[str, Tensor]:
    """Copies on the CPU, none sharing memory with another."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
