"""The files that a sweep writes: the record that reports and MLflow are made from."""
