"""What a peer tells a monitoring system: metrics, and whether it lives and would take work.

Numbers are collected when somebody asks, from what the peer knows anyway. What is known by nobody,
how often something happened and how long it took, is counted at two ports by adapters that stand
before the real ones (`attempts` before the ledger, `decisions` before the journal); so no loop of
another room knows that it is watched. The usual way, module-level counters that every function adds
to, would make the process's metrics out of two hundred lines in five rooms, and its tests share
them.

It is off by default: then nothing of it but the counting is loaded.
"""
