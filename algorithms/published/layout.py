"""The published layout of state dicts, inferred from and checked against names and shapes (see interchange.py)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from spin_rl.algorithms.asm.files import ASMShape
from spin_rl.algorithms.asm.model import ASMSizes
from spin_rl.errors import UserError

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """Name prefixes of a published state dict; ``tables`` are embeddings or queries."""

    what: str
    state_encoder: str
    blocks: str
    heads: str
    tables: str


ASM = Layout(
    what="an action structure model",
    state_encoder="core_transformer.state_encoder",
    blocks="core_transformer.transformer_blocks",
    heads="prediction_heads",
    tables="core_transformer.sub_action_value_embeddings",
)
POLICY = Layout(
    what="a policy",
    state_encoder="state_encoder",
    blocks="blocks",
    heads="heads",
    tables="slot_embeddings",
)


def checked(tensors: Tensors, layout: Layout, heads: int, dropout: float) -> tuple[dict[str, Tensor], ASMShape]:
    """The tensors under the layout's names and the shape they give; UserError where they are not the layout's."""
    tensors = _encoder_by_number(tensors, layout)
    if layout is POLICY and (queries := tensors.get(layout.tables)) is not None and queries.ndim == 3:
        tensors[layout.tables] = queries.squeeze(0)  # (1, N, D): the batch dimension may be stored too
    shape = _infer(tensors, layout, heads, dropout)
    expected = _expected(shape, layout)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    faults = [
        _listed("lacks", [name for name in expected if name not in found]),
        _listed("has no place for", [name for name in found if name not in expected]),
        _listed("has other shapes in", [f"{name} {found[name]} instead of {expected[name]}" for name in wrong]),
    ]
    if any(faults):
        raise UserError(
            f"The state dict is not that of {layout.what} in the published layout with {len(shape.nvec)} sub-actions, "
            f"{shape.sizes.layers} blocks and width {shape.sizes.width}: it {'; it '.join(filter(None, faults))}."
        )
    if heads < 1 or shape.sizes.width % heads:
        raise UserError(f"{heads} attention heads do not divide the state dict's width of {shape.sizes.width}.")
    if infinite := [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]:
        raise UserError(f"The state dict {_listed('is not finite in', infinite)}: take another snapshot.")
    return tensors, shape


def _infer(tensors: Tensors, layout: Layout, heads: int, dropout: float) -> ASMShape:
    """The shape that the tensors imply; where parts are missing, that of the remaining ones."""
    count = _count(tensors, layout.heads, layout.tables)
    layers = _count(tensors, layout.blocks)
    needed = {
        f"{layout.state_encoder}.0.weight",
        f"{layout.state_encoder}.2.weight",
        f"{layout.blocks}.0.mab.out_proj.weight",
        f"{layout.heads}.0.0.weight",
        *(f"{layout.heads}.{index}.3.weight" for index in range(count)),
    }
    if missing := sorted(name for name in needed if not _is_matrix(tensors.get(name))):
        some = ", ".join(list(tensors)[:3]) or "nothing"
        raise UserError(
            f"The state dict is not that of {layout.what} in the published layout: it {_listed('lacks', missing)}; "
            f"it holds {some} ..."
        )
    width = len(tensors[f"{layout.blocks}.0.mab.out_proj.weight"])
    return ASMShape(
        observation_size=tensors[f"{layout.state_encoder}.0.weight"].shape[1],
        nvec=tuple(len(tensors[f"{layout.heads}.{index}.3.weight"]) for index in range(count)),
        sizes=ASMSizes(
            width=width,
            heads=heads,
            layers=layers,
            state_tokens=max(1, len(tensors[f"{layout.state_encoder}.2.weight"]) // width),
            head_width=len(tensors[f"{layout.heads}.0.0.weight"]),
            dropout=dropout,
        ),
    )


def _is_matrix(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.ndim == 2 and tensor.numel() > 0


def _expected(shape: ASMShape, layout: Layout) -> dict[str, tuple[int, ...]]:
    """Every name of the layout with its shape."""
    observation_size, nvec, sizes = shape
    width, hidden = sizes.width, sizes.head_width
    names: dict[str, tuple[int, ...]] = {}

    def add(name: str, outputs: int, *inputs: int) -> None:
        names[f"{name}.weight"], names[f"{name}.bias"] = (outputs, *inputs), (outputs,)

    add(f"{layout.state_encoder}.0", 2 * width, observation_size)
    add(f"{layout.state_encoder}.2", sizes.state_tokens * width, 2 * width)
    for index in range(sizes.layers):
        name = f"{layout.blocks}.{index}.mab"
        for norm in ("ln_q", "ln_kv", "ffn_ln"):
            add(f"{name}.{norm}", width)
        for linear in ("fc_q", "fc_k", "fc_v", "out_proj"):
            add(f"{name}.{linear}", width, width)
        add(f"{name}.ffn.0", 2 * width, width)
        add(f"{name}.ffn.3", width, 2 * width)
    for index, choices in enumerate(nvec):
        add(f"{layout.heads}.{index}.0", hidden, width)
        add(f"{layout.heads}.{index}.3", choices, hidden)
        if layout is ASM:
            names[f"{layout.tables}.{index}.weight"] = (choices + 1, width)
    if layout is POLICY:
        names[layout.tables] = (len(nvec), width)
    return names


def _encoder_by_number(tensors: Tensors, layout: Layout) -> dict[str, Tensor]:
    """The state encoder's two linear layers, whatever they are called, as layers 0 and 2 of a sequence."""
    prefix = layout.state_encoder + "."
    inside = [name.removeprefix(prefix).rpartition(".")[0] for name in tensors if name.startswith(prefix)]
    found = list(dict.fromkeys(sorted(inside, key=lambda name: [int(x) for x in re.findall(r"\d+", name)])))
    if len(found) != 2:
        return dict(tensors)
    renamed = {f"{prefix}{old}.": f"{prefix}{new}." for old, new in zip(found, (0, 2), strict=True)}
    return {
        next((new + name.removeprefix(old) for old, new in renamed.items() if name.startswith(old)), name): tensor
        for name, tensor in tensors.items()
    }


def _count(tensors: Tensors, *prefixes: str) -> int:
    """One more than the highest number behind any of ``prefixes``, but no more than there are tensors."""
    found = (re.match(rf"({'|'.join(map(re.escape, prefixes))})\.(\d+)\.", name) for name in tensors)
    return min(len(tensors), 1 + max((int(match[2]) for match in found if match), default=-1))


def _listed(verb: str, items: Sequence[str], limit: int = 4) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return f"{verb} {', '.join(items[:limit])}{more}" if items else ""
