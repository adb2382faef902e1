"""What is added to the runs in MLflow: reports, and policies as registered models."""
