"""The web process: the APIs and the pages. It translates requests, and asks the supervisor or a model's worker."""
