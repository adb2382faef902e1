"""The action structure model (ASM): network, masking, pretraining, checkpoints, probes."""
