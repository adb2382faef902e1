"""What policies start from: pretrained into the store, or found there."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.pretraining.base import PretrainingConfig
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import ASMCheckpoint, ASMStore, asm_root
from spin_rl.platform.datasets import open_dataset
from spin_rl.platform.datasets.store import absolute_root, default_root
from spin_rl.platform.results.files import storage_root
from spin_rl.sweeps.planning.models import asm_config, clone_config


def pretrain(
    task: str,
    level: str,
    *,
    steps: int | Sequence[int] = 5000,
    epochs: int | None = None,
    bins: int = 3,
    version: int | None = None,
    preset: str = "small",
    method: str = "spin",
    objective: str = "mam",
    masking: Masking | None = None,
    precision: str | None = None,
    kl_weight: float = 1.0,
    latent_width: int = 32,
    temperature: float = 0.1,
    seed: int = 0,
    threads: int = 1,
    root: str | Path | None = None,
    storage: str | Path | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> list[ASMCheckpoint]:
    """Pretrain what a method starts from into the store, or find it there: an action structure model, or a clone.

    Resumes from the nearest earlier checkpoint of the same model, so that more steps cost the difference. Uses a GPU
    where there is one.

    Example: ``pretrain("cheetah-run", "medium-expert", steps=(1000, 5000))[-1].validation_loss``

    Args:
        task: name of the task.
        level: level of the dataset, which has to exist.
        steps: pretraining steps (batches) to keep a checkpoint at; 0 is the untrained model.
        epochs: instead of ``steps``: passes over the dataset, rounded up to whole batches.
        bins: choices of each action dimension.
        version: version of the dataset; the newest by default.
        preset: sizes of the network.
        method: what it is for (`spin_rl.algorithms.methods.METHODS`): a method that starts from a clone, such as bpr,
            gets a clone of its network; the default an action structure model, which all others can start from. What
            follows until ``temperature``, without the precision, is of action structure models alone.
        objective: mam (masked, the published one), vam (variational) or cam (contrastive).
        masking: how sub-actions are hidden; the preset's by default.
        precision: float32 or bfloat16; by default the preset's, and float32 for a clone.
        kl_weight: with vam, weight of the divergence in the bound.
        latent_width: with vam, size of the Gaussian latent.
        temperature: with cam, temperature of the contrast.
        seed: equal seeds give equal models.
        threads: CPU threads while it trains; their number decides how sums are rounded, so sweeps use one.
        root: where datasets lie.
        storage: where results go; the store is in it.
        on_step: called now and then with the step, the last step and the loss (nats), where something is trained.

    Returns:
        A checkpoint for each of ``steps``, in their order: its path, losses (nats per sub-action), accuracies
        (0 to 1) and cumulative pretraining seconds.

    Raises:
        UserError: unknown names, no such dataset, or settings out of range.
    """
    config: PretrainingConfig
    if not get_method(method).pretrained:
        raise UserError(f"{method} starts from no pretrained model: there is nothing to pretrain for it.")
    if get_method(method).uses_clone:
        config = clone_config(method, get_preset(preset), seed, precision=precision or "float32")
    else:
        config = asm_config(
            preset,
            seed,
            objective=objective,
            masking=masking,
            precision=precision,
            kl_weight=kl_weight,
            latent_width=latent_width,
            temperature=temperature,
        )
    dataset = open_dataset(task, level, bins=bins, root=absolute_root(root or default_root()), version=version)
    wanted = [steps] if isinstance(steps, int) else list(steps)
    if epochs is not None:
        wanted = [epochs * -(-len(dataset) // config.batch_size)]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    store = ASMStore(asm_root(storage_root(storage)))
    each = None if on_step is None else lambda step, loss: on_step(step, max(wanted), loss)
    with _threads(threads):
        return ensure_pretrained(store, dataset, config, wanted, device=device, on_step=each)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """PyTorch's CPU threads for as long as this lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
