"""Gossip says things to other peers and believes what is newer.

It knows bytes, peers and versions: datagrams, who sent them, and which of two rows about the same
peer wins. It does not know what *dead* means for a task, who leads, or how many peers there should
be: whoever needs that draws it from what gossip has heard.
"""
