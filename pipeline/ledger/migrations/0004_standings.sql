-- What the cluster has said of each life of a peer. pipeline/standing.py has the idea.

CREATE TABLE standings (
    peer_uid         text NOT NULL,
    epoch            bigint NOT NULL,
    incarnation      bigint NOT NULL DEFAULT 0,
    verdict          text NOT NULL DEFAULT 'well' CHECK (verdict IN ('well', 'suspect', 'dead')),
    suspended_until  timestamptz,
    PRIMARY KEY (peer_uid, epoch),
    CONSTRAINT the_well_are_not_suspended CHECK ((verdict = 'well') = (suspended_until IS NULL))
);

COMMENT ON TABLE standings IS
    'One start of a peer that has claimed, or of which others spoke. Its claims lock it, so that none slips past a burial.';
COMMENT ON COLUMN standings.epoch IS 'Which start of that peer.';
COMMENT ON COLUMN standings.incarnation IS
    'By the peer''s own count; what belongs to a lower one was contradicted, and is not believed any more.';
COMMENT ON COLUMN standings.verdict IS 'What was said last, by that count.';
COMMENT ON COLUMN standings.suspended_until IS
    'By this database''s clock: until then it takes no work, unless it contradicts.';

-- A burial looks for all claims of one peer that are alive.
CREATE INDEX claims_of_peer ON claims (peer_uid, epoch) WHERE ended_at IS NULL;
