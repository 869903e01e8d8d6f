"""The head's side of a cluster: its port, the nodes, and the workers that run there."""
