# The project's habits. Each target makes what it needs, from a fresh clone on: a virtual environment in .venv and,
# when root on Debian, the packages that are missing (make APT=true leaves the machine as it is).

PYTHON ?= python3
APT    ?= apt-get
VENV   ?= .venv
PYTEST  = $(VENV)/bin/python -m pytest $(ARGS)
# Ordinary users get the lists below as advice. The tests skip what they do not find, and say so.
BUILD_PACKAGES = gcc libc6-dev $(shell $(PYTHON) -c 'import ensurepip' 2>/dev/null || echo python3-venv)
TEST_PACKAGES  = busybox-static crun debootstrap groff-base iproute2 libseccomp2 procps runc strace uidmap
IMAGE_PACKAGES = docker-registry openssl skopeo umoci
ENGINE_PACKAGES = buildah catatonit conmon containerd containernetworking-plugins criu curl docker-compose docker.io \
                  fuse-overlayfs iptables netavark podman slirp4netns
BENCH_PACKAGES = bubblewrap crun runc
VM_PACKAGES    = apparmor busybox-static criu debootstrap kmod qemu-system-x86
SOURCES = build_ffi.py $(wildcard src/ocirt/_native/*.[ch] command/*.*)

.PHONY: help demo test packages fuzz test-others vm-test check format bench venv clean
.DELETE_ON_ERROR:

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: venv  ## run containers and show what came out
	$(VENV)/bin/python examples/demo.py

test: venv packages  ## run all tests; ARGS="-k name" chooses some
	$(PYTEST)

packages:  ## the Debian packages that tests use, when root
	@$(call debian,$(TEST_PACKAGES) $(IMAGE_PACKAGES) $(ENGINE_PACKAGES))

fuzz: venv  ## change valid configurations 100,000 times; ARGS="COUNT SEED" repeats a run
	$(VENV)/bin/python -m tests.mutations $(ARGS)

# The machine's other Pythons, on their paths or kept by pyenv, with the tests that are soon over, and without those of
# the command, which are a thousand interpreters more (test_installed.py runs it on each).
MINE = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
test-others: $(patsubst %,test-on-%,$(filter-out $(MINE),3.11 3.12 3.13 3.14))  ## the fast tests on every other Python found here

test-on-%:
	@python=$$(ls $$HOME/.pyenv/versions/$*.*/bin/python 2>/dev/null | tail -n 1); \
	python=$${python:-$$(command -v python$*)} || exit 0; \
	echo "== Python $*"; \
	$(MAKE) test PYTHON=$$python VENV=.venv-$* ARGS='-m "not slow and not engine" --ignore=tests/cli $(ARGS)'

vm-test: venv $(VENV)/virtual  ## the tests for a virtual machine, in one; ARGS="-k name" chooses some
	@$(call debian,$(VM_PACKAGES))
	$(VENV)/bin/python -m tests.vm $(ARGS)

check: venv $(VENV)/checkers  ## ruff, mypy --strict, C warnings, and a build with the sanitizers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python build_ffi.py --check
	$(VENV)/bin/python build_ffi.py --sanitize build/sanitized

format: $(VENV)/checkers  ## let ruff lay out the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: venv  ## compare with crun, runc, bubblewrap and the kernel's own floor
	@$(call debian,$(BENCH_PACKAGES))
	$(VENV)/bin/python -m benchmarks $(ARGS)

venv: $(VENV)/built  ## only make the virtual environment, with ocirt in it, editable

clean:  ## remove all that these targets made
	rm -rf .venv .venv-* build dist src/*.egg-info src/ocirt/_native/.build-*
	rm -f command/ocirt src/ocirt/_native/libocirt.so src/ocirt/_native/ocirt-init src/ocirt/_native/_ffi.py
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -r {} +

# pip learned --group, for PEP 735's dependency groups, in 25.1; Debian 12 has 23.
$(VENV)/installed: pyproject.toml $(wildcard command/*.*)
	@$(call debian,$(BUILD_PACKAGES))
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)/bin/python -m pip install --quiet --editable . --group test
	touch $@

$(VENV)/checkers: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --group check
	touch $@

$(VENV)/virtual: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --group vm
	touch $@

# In place, where the editable installation finds it.
$(VENV)/built: $(VENV)/installed $(SOURCES)
	$(VENV)/bin/python build_ffi.py
	touch $@

# $(call debian,PACKAGES): install those that are missing, or say which they are.
define debian
	command -v dpkg-query >/dev/null || exit 0; \
	for package in $(1); do \
		dpkg-query --show --showformat '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' \
			|| missing="$$missing $$package"; \
	done; \
	test -n "$$missing" || exit 0; \
	if test "$$(id -u)" != 0; then echo "missing here; as root: apt-get install$$missing"; exit 0; fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	$(APT) update --quiet=2 && $(APT) install --quiet=2 --yes --no-install-recommends $$missing
endef
