"""Uploads: files that clients sent. Each upload is a folder with a record, which all processes of the server read."""
