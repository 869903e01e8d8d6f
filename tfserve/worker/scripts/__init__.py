"""The roles that run scripts: a workspace in its own process, or one thread for each in the host."""
