-- Which store is the cluster's. pipeline/mark.py has the idea.
--
-- Peers of the version before do not look at it, and go on.

CREATE TABLE cluster (
    the_only_row    boolean PRIMARY KEY DEFAULT true CHECK (the_only_row),
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    marks_drawn     integer NOT NULL DEFAULT 0,
    marking_until   timestamptz,
    store_mark      integer CHECK (store_mark BETWEEN 1 AND marks_drawn),
    store_url       text,
    store_marked_at timestamptz,
    CONSTRAINT a_store_that_counts_is_described
        CHECK ((store_mark IS NULL) = (store_url IS NULL)
               AND (store_mark IS NULL) = (store_marked_at IS NULL))
);

INSERT INTO cluster DEFAULT VALUES;

COMMENT ON TABLE cluster IS
    'The only row: who this cluster is, and by which mark its object store is known.';
COMMENT ON COLUMN cluster.id IS 'Drawn once; the store''s mark has it, too.';
COMMENT ON COLUMN cluster.marks_drawn IS
    'How many numbers were given out to mark a store with. One that was not confirmed never counts.';
COMMENT ON COLUMN cluster.marking_until IS
    'Until then it is left to one peer to mark the cluster''s first store.';
COMMENT ON COLUMN cluster.store_mark IS
    'The number in the mark of the cluster''s store; empty while there is none, and any may become it.';
COMMENT ON COLUMN cluster.store_url IS 'Where that store is, as the peer saw it that marked it.';
