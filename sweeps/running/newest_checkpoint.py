"""Keeps one checkpoint of each trial, without Tune's way of doing so."""

import shutil
from pathlib import Path
from typing import Any

from ray.tune import Callback, Checkpoint

from spin_rl.platform.results.callback import never_raises


class NewestCheckpoint(Callback):
    """Deletes a trial's earlier checkpoints as soon as a newer one is whole.

    Tune does this too (`CheckpointConfig.num_to_keep`), but then writes down all trials at every checkpoint of any of
    them, which costs more than all else in a sweep of a thousand trials (docs/scaling.md). Those notes are not read
    here, so they need not be in step with the checkpoints.
    """

    @never_raises
    def on_checkpoint(self, checkpoint: Checkpoint, **_info: Any) -> None:
        newest = Path(checkpoint.path)
        for earlier in newest.parent.glob("checkpoint_*"):
            if earlier != newest:
                shutil.rmtree(earlier)
