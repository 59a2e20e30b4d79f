"""Backend and artifact stores: preflight, fingerprint, watch."""
