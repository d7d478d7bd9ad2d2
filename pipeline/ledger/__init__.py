"""The ledger: what is true about tasks, on PostgreSQL. README.md has the tables and the rules.

Nothing is imported here: `server` and `keeper` start in processes that must stay small, and the
rest brings psycopg with it. Import `pipeline.ledger.postgres` and `pipeline.ledger.database`.

This folder does not know ffmpeg, the store, or who else is in the cluster.
"""
