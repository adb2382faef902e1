"""The store of pretrained action structure models: checkpoints, digests, extension under a lease, maintenance."""
