"""The program in a worker process: it runs scripts, hosts threads or answers predictions, and calls nobody."""
