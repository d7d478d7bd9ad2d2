"""The orchestrator for one machine: containers are `peer` processes, nodes are groups of them.

    the ledger's row      what is wanted: how many, on which nodes, who was chosen to end
    files with locks      what there is: one a container, locked by its process while that lives
    the tender            makes what there is like what is wanted, in one peer of the machine

It is a small Swarm, of the same parts. A leader only ever changes the row (orchestrator.py), under
its term and over the version that it saw; the tender reads it and starts and stops processes, as
Swarm's managers do. So a leader that dies leaves nothing half done, and another goes on from what
row and files say. To start processes where decisions are carried out was rejected: they would be
known to that leader alone, and respawned by nobody while the next one is being found.

The peers that people start are containers, too, with one difference: they are never stopped. When
the last of them leaves in good order, the others end as well.
"""
