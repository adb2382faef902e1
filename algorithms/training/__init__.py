"""The learner: agents, their update loop, several seeds or learners at once, checkpoints."""
