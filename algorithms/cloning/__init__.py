"""Clones: a policy's own network, pretrained by behaviour cloning, that policies start from."""
