"""A container's cgroups: where they go, making them, joining them, removing them (cgroups(7)).

Read in this order::

    layout    which hierarchies are mounted, and where in each this process is      text → values
    choice    where the container's cgroup goes in each of them                     pure
    devices   the device rules of config.json, and as writes to cgroup v1 files     pure
    bpf       the same rules as a program for cgroup v2                             pure
    settings  a limit as a write to a file; v1 and v2 make them, conversion chooses pure
    mounts    what a mount of type "cgroup" shows                                   pure
    units     what systemd calls it: slices, scopes and their names                 pure
    properties   limits and annotations for systemd to know (with ``gvariant``)     pure
    systemd   making a unit for it, and stopping that (over ``dbus``)
    files     Cgroup: make, join, list, kill, remove, by file operations
    merge     limits that change while others stay                                pure
    limits    writing settings, and handing controllers of version 2 down to where they are wanted
    freezing  stopping all processes where they are
    tree      the few file operations those are made of
    device_filter   loads and attaches that program

A life goes ``choose → survey → (store the record) → make → join → … → remove``. A ``Cgroup`` is a plain record, so
that the process which removes it need not be the one that made it; ``files`` and ``tree`` need neither attrs nor
cattrs, because deleting a container should not pay for importing them.
"""
