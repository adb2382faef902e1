"""Building blocks: layers, trunk, critics, dropout, freezing, precision."""
