"""Keeps only the newest checkpoint of each trial, in the place of Tune's own mechanism."""

import shutil
from pathlib import Path
from typing import Any

from ray.tune import Callback, Checkpoint

from spin_rl.platform.results.callback import never_raises


class NewestCheckpoint(Callback):
    """Deletes a trial's earlier checkpoints as soon as a newer one is complete.

    Tune does this too (`CheckpointConfig.num_to_keep`), but then saves the state of all trials at every checkpoint of
    any of them, which costs more than everything else in a sweep of a thousand trials (docs/scaling.md). That state is
    not read here, so it need not agree with the checkpoints.
    """

    @never_raises
    def on_checkpoint(self, checkpoint: Checkpoint, **_info: Any) -> None:
        newest = Path(checkpoint.path)
        for earlier in newest.parent.glob("checkpoint_*"):
            if earlier != newest:
                shutil.rmtree(earlier)
