"""What a sweep is, before anything runs: spaces, points, trials, plans."""
