"""The command's program (``command/``): what it answers itself is what Python would have answered."""
