"""Shared foundations of the platform: leases, findings, Ray sessions, provenance, pins, atomic files."""
