"""ocirt: an OCI container runtime as a Python library."""
from ocirt.bundle import Bundle
from ocirt.container import Container, containers
from ocirt.process import Process, Terminal
from ocirt.spec import Spec
