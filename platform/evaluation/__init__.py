"""Evaluation of policies over whole episodes, and films of them."""
