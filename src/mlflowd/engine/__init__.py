"""The container engine: the only place that imports docker."""
