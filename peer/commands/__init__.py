"""What people type after `peerctl`, a module for each group of commands.

A command asks a peer and prints the answer. Importing these modules costs a few milliseconds:
rich, and whatever else a command needs to do its work, is imported inside the command.
"""
