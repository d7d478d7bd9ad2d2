"""Providers make nodes and take them away: standby, the user's own commands, or a cloud's API.

They know names, machines and a way to the Swarm. They do not know why a node is wanted, who leads,
or what a container is.
"""
