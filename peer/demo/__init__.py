"""The whole thing on this machine: three peers, one video, and what one sees of it.

It starts peers as anybody would and talks to them as `peerctl` does; it knows no shortcut. Nothing
of it outlives the command: see `crew` for how that holds even when the command is killed.
"""
