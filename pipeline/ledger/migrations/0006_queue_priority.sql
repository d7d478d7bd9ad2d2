-- Priorities in the embedded queue, and who has had a message. pipeline/priority.py has the idea.

ALTER TABLE queue_messages
    ADD COLUMN priority text NOT NULL DEFAULT 'normal'
               CHECK (priority IN ('high', 'normal', 'low'));

-- The head of each priority's line, and when its next delayed message is due.
DROP INDEX queue_messages_waiting;
CREATE INDEX queue_messages_waiting ON queue_messages (priority, visible_at, id)
    WHERE dead_at IS NULL AND consumer IS NULL;

COMMENT ON COLUMN queue_messages.visible_at IS
    'Not delivered before; the order of delivery within its priority.';
COMMENT ON COLUMN queue_messages.deliveries IS
    'How often it was given to a consumer since it was published or put back: more than once, when one that had it is gone.';
