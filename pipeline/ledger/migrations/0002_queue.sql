-- The embedded queue. pipeline/queues/embedded.py has the idea.

-- Numbers of consumers. Never given twice: after a crash a sequence skips, it does not go back.
CREATE SEQUENCE queue_consumers AS integer;

CREATE TABLE queue_messages (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body          bytea NOT NULL,
    published_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    visible_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    deliveries    integer NOT NULL DEFAULT 0 CHECK (deliveries >= 0),
    consumer      integer,
    dead_at       timestamptz,
    dead_reason   text,
    CONSTRAINT dead_for_a_reason CHECK ((dead_at IS NULL) = (dead_reason IS NULL)),
    CONSTRAINT the_dead_are_nobodys CHECK (dead_at IS NULL OR consumer IS NULL),
    CONSTRAINT a_consumer_has_had_it CHECK (consumer IS NULL OR deliveries >= 1)
);

CREATE INDEX queue_messages_waiting ON queue_messages (visible_at, id)
    WHERE dead_at IS NULL AND consumer IS NULL;
CREATE INDEX queue_messages_held ON queue_messages (consumer) WHERE consumer IS NOT NULL;

COMMENT ON TABLE queue_messages IS 'Wake-ups that wait, or are in the hands of a consumer, or were set aside.';
COMMENT ON COLUMN queue_messages.visible_at IS 'Not delivered before; the order of delivery.';
COMMENT ON COLUMN queue_messages.deliveries IS 'How often it was given to a consumer.';
COMMENT ON COLUMN queue_messages.consumer IS
    'Who holds it. Its session holds the advisory lock (the queue''s, this number); without that lock the consumer is gone and the message is free.';
COMMENT ON COLUMN queue_messages.dead_reason IS 'Why no retry can make sense of it.';
