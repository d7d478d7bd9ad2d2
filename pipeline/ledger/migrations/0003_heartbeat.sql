-- Whether the ledger itself was away, and a corrected comment. pipeline/ledger/sweep.py has the idea.

-- UNLOGGED: a beat costs no write to the disk, and a crash empties the table, which says the right
-- thing: nobody knows since when the ledger has been there again.
CREATE UNLOGGED TABLE heartbeat (
    the_only_row  boolean PRIMARY KEY DEFAULT true CHECK (the_only_row),
    beat_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    steady_since  timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE heartbeat IS
    'When a peer last looked for expired leases. After a silence the ledger was away, for the holders of leases too.';
COMMENT ON COLUMN heartbeat.steady_since IS 'There was no silence since then.';

COMMENT ON COLUMN events.sequence IS
    'Rises with each event of this peer and epoch; makes a repeat harmless. A gap is no lost event: the number was taken for one that then was not written.';
