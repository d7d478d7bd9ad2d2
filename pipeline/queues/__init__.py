"""Queues: where wake-ups wait until a peer has a free slot. Each module is one kind of queue.

A queue knows bytes and who holds them. It does not know what a task is, and may deliver a message
twice; the ledger alone decides who owns a part.
"""
