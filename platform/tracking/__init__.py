"""MLflow: a sweep's runs are mirrored from its results files."""
