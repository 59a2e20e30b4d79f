"""The commands: one file a verb; renders errors; exit statuses."""
