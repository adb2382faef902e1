"""Checks of a machine, of a cluster and of its nodes."""
