"""Files of tasks: uploads of updates and adapters, and downloads."""
