"""The published implementation's state dicts, in and out."""
