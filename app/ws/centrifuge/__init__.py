"""The I/O side of the Centrifuge protocol: what its commands do."""
