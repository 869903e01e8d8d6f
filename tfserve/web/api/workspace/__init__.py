"""The workspace API (JSON over POST): CONTRACT section 1."""
