"""Stage 1 of a training: what a policy starts from, made by steps, validated, and kept in the store."""
