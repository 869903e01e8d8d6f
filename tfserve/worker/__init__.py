"""The program in a worker process: it runs scripts, hosts workspace threads, serves a model or trains."""
