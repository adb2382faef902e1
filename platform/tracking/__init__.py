"""MLflow: runs are mirrored from the files of the results."""
