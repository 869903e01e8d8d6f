"""Reads zip and tar archives that nobody vouches for: everything is checked before anything is written."""
