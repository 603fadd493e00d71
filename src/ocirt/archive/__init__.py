"""Tar archives and file trees: what is in the one becomes the other, and nothing outside the tree is touched."""
