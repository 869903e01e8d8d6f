"""What the command line does, a file for each command; imported when it runs."""
