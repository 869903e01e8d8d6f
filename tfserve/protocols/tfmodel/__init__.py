"""The training API (form over POST, query over GET): CONTRACT section 2, and the same as JSON under /tasks/."""
