"""What we know of MLflow: command line, probes, causes of failure."""
