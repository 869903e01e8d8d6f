"""The recipes, one per kind of training, read from top to bottom; the run and its parameters."""
