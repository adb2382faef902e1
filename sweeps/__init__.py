"""The experiments: one file each, its search space as data, its analysis beside it."""
