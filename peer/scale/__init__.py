"""A peer's share of scaling: which orchestrator and provider there is, and what people ask of it.

It wires the room `scaling` to the ledger, the queue and gossip, and decides nothing.
"""
