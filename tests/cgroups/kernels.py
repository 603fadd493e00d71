"""Files as kernels write them, for controllers that this machine has not, or has in the other version.

Every number is another one, so that none can stand in for its neighbour.
"""

from __future__ import annotations

from pathlib import Path

from ocirt.cgroups.files import Cgroup, Directory

UNLIMITED_V1 = "9223372036854771712\n"
PRESSURE = (
    "some avg10=1.50 avg60=2.25 avg300=3.00 total=4000000\nfull avg10=0.50 avg60=0.25 avg300=0.00 total=1500000\n"
)

V1 = {
    "memory": {
        "cgroup.procs": "",
        "memory.stat": "cache 11\nrss 12\nhierarchical_memory_limit 64\ntotal_cache 13\n",
        "memory.usage_in_bytes": "101\n",
        "memory.limit_in_bytes": "67108864\n",
        "memory.max_usage_in_bytes": "102\n",
        "memory.failcnt": "3\n",
        "memory.memsw.usage_in_bytes": "104\n",
        "memory.memsw.limit_in_bytes": UNLIMITED_V1,
        "memory.memsw.max_usage_in_bytes": "105\n",
        "memory.memsw.failcnt": "6\n",
        "memory.kmem.usage_in_bytes": "107\n",
        "memory.kmem.limit_in_bytes": UNLIMITED_V1,
        "memory.kmem.max_usage_in_bytes": "108\n",
        "memory.kmem.failcnt": "9\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    },
    "cpu": {"cpu.stat": "nr_periods 21\nnr_throttled 22\nthrottled_time 23000000\n"},
    "cpuacct": {
        "cpuacct.usage": "4500000000\n",
        "cpuacct.stat": "user 250\nsystem 75\n",
        "cpuacct.usage_percpu": "1500000000 3000000000 \n",
        "cpuacct.usage_all": "cpu user system\n0 1000000000 500000000\n1 2250000000 750000000\n",
    },
    "cpuset": {
        "cpuset.cpus": "0-2,7\n",
        "cpuset.mems": "0\n",
        "cpuset.effective_cpus": "0-1\n",
        "cpuset.effective_mems": "1\n",
        "cpuset.cpu_exclusive": "1\n",
        "cpuset.sched_relax_domain_level": "-1\n",
    },
    "pids": {"pids.current": "5\n", "pids.max": "max\n"},
    "blkio": {
        "blkio.bfq.io_service_bytes_recursive": "Total 0\n",
        "blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 8192\n8:0 Total 12288\nTotal 12288\n",
        "blkio.throttle.io_serviced_recursive": "8:0 Read 1\n253:16 Write 2\nTotal 3\n",
        "blkio.bfq.sectors_recursive": "8:0 31\n",
        "blkio.bfq.io_service_time_recursive": "8:0 Read 32000000\n",
        "blkio.bfq.io_wait_time_recursive": "8:0 Read 33000000\n",
        "blkio.bfq.time_recursive": "8:0 34\n",
        "blkio.bfq.io_queued_recursive": "8:0 Read 35\n",
        "blkio.bfq.io_merged_recursive": "8:0 Read 36\n",
    },
    "hugetlb": {
        "hugetlb.2MB.usage_in_bytes": "1\n",
        "hugetlb.2MB.limit_in_bytes": "2\n",
        "hugetlb.2MB.max_usage_in_bytes": "3\n",
        "hugetlb.2MB.failcnt": "4\n",
        "hugetlb.1GB.usage_in_bytes": "5\n",
        "hugetlb.1GB.rsvd.usage_in_bytes": "6\n",
        "hugetlb.1GB.rsvd.limit_in_bytes": "9223372036317904896\n",
        "hugetlb.1GB.rsvd.max_usage_in_bytes": "7\n",
        "hugetlb.1GB.rsvd.failcnt": "8\n",
    },
    "rdma": {"rdma.current": "mlx4_0 hca_handle=2 hca_object=3\n", "rdma.max": "mlx4_0 hca_handle=4 hca_object=max\n"},
}

V2 = {
    "cgroup.procs": "",
    "memory.stat": "anon 12\nfile 11\nkernel 107\nsock 108\n",
    "memory.current": "101\n",
    "memory.max": "67108864\n",
    "memory.peak": "102\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 4\noom_kill 2\noom_group_kill 0\n",
    "memory.events.local": "low 0\nhigh 0\nmax 3\noom 4\noom_kill 0\n",
    "memory.swap.current": "5\n",
    "memory.swap.max": "1048576\n",
    "memory.swap.events": "high 0\nmax 6\nfail 0\n",
    "memory.pressure": PRESSURE,
    "cpu.stat": "usage_usec 4500000\nuser_usec 2500000\nsystem_usec 750000\nnr_periods 21\nnr_throttled 22\n"
    "throttled_usec 23000\nnr_bursts 0\nburst_usec 0\n",
    "cpuset.cpus": "\n",
    "cpuset.mems": "\n",
    "cpuset.cpus.effective": "0-1\n",
    "cpuset.mems.effective": "1\n",
    "pids.current": "5\n",
    "pids.max": "64\n",
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=9 dios=9\n253:16 \n",
    "hugetlb.2MB.current": "1\n",
    "hugetlb.2MB.max": "2\n",
    "hugetlb.2MB.events": "max 4\n",
    "hugetlb.1GB.current": "5\n",
    "hugetlb.1GB.rsvd.current": "6\n",
    "hugetlb.1GB.rsvd.max": "max\n",
    "rdma.current": "mlx4_0 hca_handle=2 hca_object=3\n",
    "rdma.max": "mlx4_0 hca_handle=4 hca_object=max\n",
}


def v1(directory: Path, files: dict[str, dict[str, str]] = V1) -> Cgroup:
    """A hierarchy for each controller."""
    return Cgroup(tuple(_made(directory / controller, files[controller], (controller,), 1) for controller in files))


def v2(directory: Path, files: dict[str, str] = V2) -> Cgroup:
    return Cgroup((_made(directory / "unified", files, (), 2),))


def hybrid(directory: Path) -> Cgroup:
    """Controllers on version 1, and version 2 with what it has without any."""
    unified = {"cpu.stat": "usage_usec 1\nuser_usec 1\nsystem_usec 1\n", "memory.pressure": PRESSURE}
    return Cgroup((*v1(directory).directories, *v2(directory, unified).directories))


def _made(directory: Path, files: dict[str, str], controllers: tuple[str, ...], version: int) -> Directory:
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return Directory(str(directory), controllers, version)
