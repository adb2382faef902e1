"""What the experiments' analyses share: outcomes, pictures, fronts."""
