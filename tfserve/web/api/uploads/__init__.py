"""The API for uploads and for the files of workspaces."""
