"""Plans of sweeps, before anything runs: spaces, points, trials, pretrainings. Imports no Ray."""
