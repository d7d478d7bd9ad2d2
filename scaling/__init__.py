"""Scaling looks at a snapshot and says how many containers and nodes there should be.

Then it makes it so. It knows queue lengths, loads, limits and an orchestrator's levers. It does not
know how the snapshot was gathered, what a task is made of, or who leads: it is asked only where it
may act.
"""
