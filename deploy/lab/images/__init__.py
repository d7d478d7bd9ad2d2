"""What the nodes run, made without a registry and without a Docker engine."""
