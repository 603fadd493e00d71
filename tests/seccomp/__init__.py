"""Tests of ``ocirt.seccomp``."""
