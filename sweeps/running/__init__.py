"""Running plans on Ray: pretraining, Tune's trials, progress, estimates."""
