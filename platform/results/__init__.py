"""The files that a sweep leaves behind: the record that reports and MLflow are made from."""
