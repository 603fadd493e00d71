"""The laws of planning. Nothing here needs privilege, a kernel, or even Linux."""
