"""mlflowd: turns one Linux host into a dependable MLflow tracking server."""

__version__ = "0.1.0"
