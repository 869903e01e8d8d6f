"""Access control: who sends a request, what it may do, and what tokens look like. Shared by web, supervisor and CLI."""
