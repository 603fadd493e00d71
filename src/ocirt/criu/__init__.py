"""Checkpoint and restore by CRIU (criu(8)): the program, what it is told, and the host's part meanwhile.

``messages`` (its protocol) → ``program`` (one request and what CRIU asks meanwhile) → ``dump`` and ``restoring`` (what
is asked of it), with ``external`` for the mounts that CRIU is not to make anew.

CRIU is spoken to as runc does it, by ``criu swrk`` and a socket, not by its command line, because that cannot do two
things: hand over the master of a terminal that it has made (``orphan-pts-master`` comes with a descriptor, which
no action script can receive), and make the restored init our own child that goes on only once we have recorded it
(``rst_sibling``, ``post-restore``). With the command line each of its questions would be a program of ours beside it
that has to find its way back here; the protocol's encoding is less code than that, and needs no library.
"""
