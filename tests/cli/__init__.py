"""The command line, as its callers run it: in a process of its own."""
