-- How many more messages than parts a broker may hold: whoever counts what waits must not take a part for two.

ALTER TABLE parts ADD COLUMN repeats integer NOT NULL DEFAULT 0 CHECK (repeats >= 0);

COMMENT ON COLUMN parts.repeats IS
    'How often a peer sent a wake-up that may have been one too many: the queue holds at most so many beside the first.';

-- What was taken from a peer whose end is explained only afterwards; few, as most claims end by their holders.
CREATE INDEX claims_expired ON claims (peer_uid, epoch, ended_at) WHERE outcome = 'expired';
