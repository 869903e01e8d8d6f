"""The role that serves a deployed model."""
