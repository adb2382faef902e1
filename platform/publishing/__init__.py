"""What is put into MLflow beside the runs: reports, and policies as registered models."""
