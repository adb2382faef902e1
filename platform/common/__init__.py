"""What every other part of the platform stands on: leases, findings, Ray sessions, provenance, pins."""
