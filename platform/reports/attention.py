"""The picture of the attention of sub-action tokens: a map for each layer and head."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray


def attention_figure(maps: NDArray[np.floating], names: Sequence[str], title: str) -> Figure:
    """Layers from top to bottom, heads from left to right; rows are queries, columns are keys.

    Args:
        maps: attention weights (L, H, N, M + N): to the M state tokens first, then to the sub-actions.
        names: the sub-actions' names (N,).
        title: title of the figure.
    """
    layers, heads, count, seen = maps.shape
    states = ["state"] if seen == count + 1 else [f"state {number + 1}" for number in range(seen - count)]
    size = max(1.9, 0.085 * count)  # inches of a map; 38 names of 5 points do not overlap
    font = 7 if count <= 12 else 5
    figure = Figure(figsize=(size * heads + 1.6, size * layers + 1.4), layout="constrained", dpi=150)
    axes = figure.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
    # the state receives most of the attention: a square-root scale keeps that between sub-actions visible
    scale = PowerNorm(0.5, vmin=0.0, vmax=float(maps.max()))
    for layer in range(layers):
        for head in range(heads):
            axis = axes[layer, head]
            image = axis.imshow(maps[layer, head], norm=scale, cmap="viridis", aspect="auto")
            axis.axvline(len(states) - 0.5, color="white", linewidth=1.0)
            share = float(maps[layer, head, :, : len(states)].sum(-1).mean())
            axis.set_title(f"layer {layer + 1}, head {head + 1} · {share:.0%} to the state", fontsize=7)
            axis.set_xticks(range(seen), [*states, *names], rotation=90, fontsize=font)
            axis.set_yticks(range(count), list(names), fontsize=font)
            axis.tick_params(length=0)
    figure.supxlabel("looked at", fontsize=8)
    figure.supylabel("sub-action that looks", fontsize=8)
    figure.suptitle(title, fontsize=9)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label(f"mean attention weight (uniform: {1 / seen:.2f})", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    return figure
