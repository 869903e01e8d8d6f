"""The training API: forms over POST and queries over GET (CONTRACT section 2), and the same as JSON under /tasks/."""
