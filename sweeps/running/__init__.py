"""Plans at work on Ray: pretraining, Tune's trials, progress, estimates."""
