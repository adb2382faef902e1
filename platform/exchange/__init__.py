"""Import and export of datasets: the factorised benchmark's files, RLlib, Minari, tables."""
