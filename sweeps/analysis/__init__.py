"""What the experiments' analyses share: outcomes, figures, fronts."""
