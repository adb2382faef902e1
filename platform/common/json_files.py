"""JSON records, written atomically."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spin_rl.errors import UserError


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON file so that no reader ever sees half of it, even after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(record, file, ensure_ascii=False, indent=1, default=str)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The record in a JSON file.

    Raises:
        UserError: it cannot be read, or is not an object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it from a copy or remove its folder.") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} does not hold a record; restore it from a copy or remove its folder.")
    return record
