"""Transitions on the learner's device, and features that are computed once for a dataset."""
