"""A gate before a manager's Docker socket, as wide as what scaling asks for and no wider.

Docker's socket on a manager is root on every machine of the Swarm: whoever may create a service may
mount any disk. A peer opens videos from strangers, so it must not have that socket, not even the
peer that leads. It has this gate's instead, and can change how many containers *one* service runs,
the labels and availability of *our* workers, and our own configs, which hold the lease and the
claims on machines.

The gate does not pass requests on. It reads what is asked for, refuses with 403 and a sentence what
is not on its list (`asking`), and puts a request of its own to the engine. A change is made by
reading the present object, laying the two or three values that may change over it, and writing that
(`changes`): whatever else stood in the caller's body, under whatever spelling, is not sent. So
there is no body to smuggle an image through, and no path, header or query that two parsers could
read differently.

Rejected: a list of paths in HAProxy or nginx, as the usual socket proxies have it. They allow
`POST /services/…/update` or they do not; whoever may send it may also change the image and mounts
of any service. And a TCP port inside an overlay network: a UNIX socket in a volume of the node
needs no network, and no other container can mount it without a manager's consent.

`gate` decides, `engine` speaks to Docker, `server` listens, `command` starts it. It does not know
who leads: two leaders are kept apart by versions and terms, as without it.
"""
