"""`python -m scaling.swarm.proxy`."""

from scaling.swarm.proxy.command import main

if __name__ == "__main__":
    main()
