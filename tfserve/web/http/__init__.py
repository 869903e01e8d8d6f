"""What every protocol needs of HTTP: the door, bodies with limits, answers, and the server underneath."""
