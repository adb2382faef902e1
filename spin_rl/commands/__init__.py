"""The commands of ``spin-rl``, one module for each group."""
