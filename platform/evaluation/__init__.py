"""Evaluation of policies over whole episodes, and videos of them."""
