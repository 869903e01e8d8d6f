"""The parent of all processes, and the only writer of what is durable."""
