"""Archives: what is in them, and what becomes of it."""
