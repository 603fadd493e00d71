#!/bin/sh
# Runs in the machine as its only program: makes the host's files a place for tests, and runs pytest there.
# Arguments: the project, its kernel's directory, and pytest's.
set -eu
project=$1 kernel=$2
shift 2

# The host's files as virtme has mounted them are asked for anew each time, which takes an emulated machine long.
mkdir /run/host
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=524288,access=any cached /run/host
for directory in /run/host/*; do
	case ${directory#/run/host} in
	/dev | /etc | /proc | /run | /sys | /var) continue ;;
	esac
	if test -d "$directory" && ! test -L "$directory"; then
		mount --bind "$directory" "${directory#/run/host}"
	fi
done

# The modules are where no modprobe looks, not even the kernel's own.
printf '#!/bin/sh\nexec modprobe --dirname=%s "$@"\n' "$kernel" >/run/modprobe
chmod +x /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
/run/modprobe --all loop ext4 overlay tun

# CRIU tries the kernel out in /tmp.
mkdir -p /run/overlay/upper /run/overlay/work
chmod 1777 /run/overlay/upper
mount -t overlay -o lowerdir=/tmp,upperdir=/run/overlay/upper,workdir=/run/overlay/work tmp /tmp

# A disk as tests know it; the rest of the machine is read-only. It is in memory, and gone afterwards.
truncate --size=1G /run/disk
mkfs.ext4 -q /run/disk
mkdir /run/tests
mount -o loop,discard /run/disk /run/tests
export TMPDIR=/run/tests HOME=/run/tests HYPOTHESIS_STORAGE_DIRECTORY=/run/tests/hypothesis PYTHONDONTWRITEBYTECODE=1

grep -q Y /sys/module/apparmor/parameters/enabled || { echo 'this kernel is without AppArmor'; exit 1; }
dmesg --console-level err
cd "$project"
# By a pipe, because the console is a terminal.
{
	echo '== begin'
	uname -srv
	code=0
	.venv/bin/python -m pytest -p no:cacheprovider -o faulthandler_timeout=300 "$@" || code=$?
	echo '== end'
	echo $code >/run/shared/status
} </dev/null 2>&1 | cat
