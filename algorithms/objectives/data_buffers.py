"""Modules whose buffers have sizes that only the data decide."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class DataBuffers(nn.Module):
    """A module whose buffers in ``sized_by_data`` take the sizes of the state that they are loaded from."""

    sized_by_data: ClassVar[tuple[str, ...]]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name in self.sized_by_data:
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor):
                setattr(self, name, torch.empty_like(saved, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *args)
