"""A picture of a dataset: returns, choices of each sub-action, dependence of each pair of sub-actions."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spin_rl.platform.datasets.inspect import action_counts, mutual_information
from spin_rl.platform.datasets.reader import OfflineDataset


def draw(dataset: OfflineDataset, path: Path) -> None:
    """Write the picture as PNG."""
    metadata = dataset.metadata
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    figure.suptitle(f"{metadata.key}: {metadata.transitions:,} transitions, {metadata.episodes:,} episodes")
    left, middle, right = figure.subplots(1, 3)

    returns, first = dataset.returns(), 0
    edges = np.histogram_bin_edges(returns, bins=40)
    for behaviour in metadata.behaviours:
        behaviour_returns = returns[first : first + behaviour.episodes]
        left.hist(behaviour_returns, bins=edges, alpha=0.7, label=f"{behaviour.name}, mean {behaviour.return_mean:.0f}")
        first += behaviour.episodes
    for reference, name in ((metadata.reference_random, "random"), (metadata.reference_expert, "expert")):
        if reference is not None:
            left.axvline(reference, color="black", linestyle=":", linewidth=1)
            left.annotate(f" {name}", (reference, 0.97), xycoords=("data", "axes fraction"), rotation=90, va="top")
    left.set(xlabel="return of an episode", ylabel="episodes", title="Returns")
    left.legend()

    frequencies = np.full((len(metadata.nvec), max(metadata.nvec)), np.nan)  # (N, C), NaN at missing choices
    for row, counts in zip(frequencies, action_counts(dataset), strict=True):
        row[: len(counts)] = counts / counts.sum()
    drawn = middle.imshow(frequencies, aspect="auto", vmin=0, cmap="viridis", interpolation="nearest")
    figure.colorbar(drawn, ax=middle)
    middle.xaxis.set_major_locator(MaxNLocator(integer=True))
    middle.set(xlabel="choice", ylabel="sub-action", title="Frequency of each choice")

    information = mutual_information(dataset)
    np.fill_diagonal(information, np.nan)
    drawn = right.imshow(information, vmin=0, cmap="magma", interpolation="nearest")
    figure.colorbar(drawn, ax=right)
    right.set(xlabel="sub-action", ylabel="sub-action", title="Mutual information of each pair (bits)")

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
