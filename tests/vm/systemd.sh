#!/bin/sh
# Runs in the machine as a service, once all others have started: runs pytest, and switches the machine off.
# Arguments: pytest's.
set -eu
mkdir /run/tests
mount -t tmpfs -o mode=755 tests /run/tests
for archive in project packages; do
	mkdir /run/tests/$archive
	tar --extract --file=/opt/vm/$archive.tar --directory=/run/tests/$archive
done
cd /run/tests/project
export PYTHONPATH=/run/tests/project/src:/run/tests/packages TMPDIR=/run/tests HOME=/run/tests
export HYPOTHESIS_STORAGE_DIRECTORY=/run/tests/hypothesis PYTHONDONTWRITEBYTECODE=1
# By a pipe, because the console is a terminal.
{
	echo '== begin'
	uname -srv
	code=0
	python3 -m pytest -p no:cacheprovider -o faulthandler_timeout=300 "$@" || code=$?
	echo '== end'
	echo $code >/opt/vm/status
} </dev/null 2>&1 | cat
