"""Proof that the server survives: the fault suite, the chaos run and the soak run."""
