"""The pipeline takes a task from the queue to its outputs, exactly once in effect.

It knows tasks and their parts, the ledger that holds them, the queue that wakes it, the store that
keeps the bytes, and ffmpeg. It does not know who else is in the cluster: what it needs of the
others arrives as plain values.

Nothing is re-exported here: importing one small module of the pipeline must not load trio, psycopg
and the rest of them with it.
"""
