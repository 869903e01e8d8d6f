"""Reads zip and tar archives from untrusted sources: everything is checked before anything is written."""
