"""Images: from a registry, a layout or an archive to a bundle, and back (opencontainers/image-spec 1.1).

On the ground ``digest``, ``media`` and ``documents``: the specification's words as values. ``reference`` is how people
name images, ``transport`` what every place offers where they are kept. ``ocirt`` itself does not import this package:
whoever brings a rootfs of their own does not pay for it.
"""
