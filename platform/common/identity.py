"""Addresses made from content."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def identity_key(identity: Mapping[str, Any]) -> str:
    """A short name that differs wherever ``identity`` does."""
    canonical = json.dumps(dict(identity), sort_keys=True, default=list)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
