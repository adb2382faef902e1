"""Optuna's searches over a sweep's space, their studies and their scheduler."""
