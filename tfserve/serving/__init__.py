"""How web reaches the processes that do the work."""
