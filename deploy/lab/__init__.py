"""A real Docker Swarm of several nodes on one Linux machine, see README.md."""
