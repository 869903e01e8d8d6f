"""The pages. They own no data."""
