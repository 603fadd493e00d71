"""A virtual machine for the tests that need another kernel, or may change the machine (docs/vm-tests.md)."""
