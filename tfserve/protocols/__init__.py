"""The wire APIs, a folder each. They translate, nothing more."""
