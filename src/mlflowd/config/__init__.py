"""The settings: what /etc/mlflowd.toml may say, and how it is read."""
