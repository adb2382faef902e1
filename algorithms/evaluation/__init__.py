"""Trained policies at work: acting on batches of observations, evaluation beside the training."""
