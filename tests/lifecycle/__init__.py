"""Real containers, looked at from inside and from outside."""
