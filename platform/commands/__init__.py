"""The groups of commands of ``spin-rl``; heavy imports are inside the functions, so that ``--help`` is quick."""
