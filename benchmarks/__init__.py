"""How long ocirt takes, beside others that do the same and beside the kernel itself: ``python -m benchmarks``.

Read in this order::

    contender    what is compared: contenders, their comparison, and what came out   values
    measure      one interleaved run
    place        the files, state directories and mounts that contenders share
    lives        create, start, wait, delete: ocirt, floor.c, crun, runc
    others       exec; a large caller; ``ocirt.run``; ``import ocirt``
    report       the table and the JSON document
"""
