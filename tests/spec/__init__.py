"""Tests of ocirt.spec."""
