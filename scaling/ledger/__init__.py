"""What scaling keeps in the ledger's database, in tables of its own.

The lease and the claims on machines where the orchestrator has no place for them; the books, the
pause and the decisions for every orchestrator. It knows no table of the pipeline's, and reaches the
database through a port that the peer fills in.
"""
