"""Datasets from elsewhere and to elsewhere: the factorised benchmark's files, RLlib, Minari, tables."""
