"""Tests of ocirt.cgroups."""
