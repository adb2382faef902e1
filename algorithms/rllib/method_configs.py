"""RLlib configurations of the methods."""

from spin_rl.algorithms.rllib.config import OfflineConfig


class SPINConfig(OfflineConfig):
    """SPIN (arXiv 2601.04441): light heads and queries on a frozen, pretrained action structure model."""

    method_name = "spin"


class SPINCachedConfig(OfflineConfig):
    """SPIN on features that are computed once for the whole dataset."""

    method_name = "spin-cached"


class SPINDistillConfig(OfflineConfig):
    """SPIN with a student without attention in the trunk's place."""

    method_name = "spin-distill"


class FinetuneConfig(OfflineConfig):
    """SPIN whose state encoder and trunk train too, at a learning rate of their own."""

    method_name = "finetune"


class SaintConfig(OfflineConfig):
    """SAINT (arXiv 2505.12109): the same network, trained from scratch."""

    method_name = "saint"


class FactoredConfig(OfflineConfig):
    """The factored baseline: an MLP with independent heads."""

    method_name = "factored"


class AutoregressiveConfig(OfflineConfig):
    """The autoregressive baseline: an LSTM over sub-actions."""

    method_name = "autoregressive"
