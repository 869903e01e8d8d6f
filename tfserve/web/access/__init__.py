"""Access control at the edges of the web process."""
