"""Docker Swarm as orchestrator: what scaling asks of it, by the Docker API of its managers.

One replicated service runs the peers. Every change is one raw read, change and write on a version,
with the leader's term in the same write; swarmkit's own consensus refuses the second of two. What
Swarm says is turned into plain values by pure modules (`containers`, `nodes`, `service`,
`victims`); one thin client talks to the managers, and `orchestrator`, `lease`, `intents` and
`nudges` are what the controller is given.

It does not know how many containers there should be, and never starts or stops one itself.
"""
