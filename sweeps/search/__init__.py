"""Searches of a sweep's space with Optuna: studies, their points, and the scheduler of the trials."""
