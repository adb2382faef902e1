"""The store of pretrained models: checkpoints, digests, extension under a lease, maintenance."""
