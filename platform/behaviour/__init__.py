"""Training of behaviour policies on Ray actors, and their learning curves."""
