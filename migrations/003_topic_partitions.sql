-- How far each Kafka partition is emitted, and how. The row's lock is what makes emission exclusive: whoever publishes to a partition
-- holds it from before the first record until the mark is committed. Rows are made by `paylatch partitions init`, once.

create type delivery_mode as enum ('locked', 'fenced');
create type partition_state as enum ('active', 'halted');

create table topic_partitions (
    partition        smallint        not null,
    topic            text            not null,
    topic_id         uuid            not null, -- Kafka's own: a topic made anew under the same name is another topic.
    transactional_id text            not null, -- Of the one producer that may publish here, in fenced delivery.
    delivery         delivery_mode   not null,
    generation       bigint          not null default 0, -- Counts take-overs.
    next_offset      bigint          not null, -- Every record of ours below it is marked in payments.
    state            partition_state not null default 'active',
    reason           text, -- Why it halted, for the operator.
    changed_at       timestamptz     not null default now(), -- When state or delivery last changed.
    constraint topic_partitions_partition_is_unique primary key (partition),
    constraint topic_partitions_transactional_id_is_unique unique (transactional_id),
    constraint topic_partitions_partition_not_negative check (partition >= 0),
    constraint topic_partitions_generation_not_negative check (generation >= 0),
    constraint topic_partitions_next_offset_not_negative check (next_offset >= 0),
    constraint topic_partitions_halted_has_reason check ((state = 'halted') = (reason is not null))
) with (
    -- A few rows, updated once per batch. Room in the page keeps the updates HOT (no column of theirs is indexed); vacuum comes early, since
    -- small hot tables bloat worst when something holds an old snapshot (facts P2).
    fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000
);

---- create above / drop below ----

drop table topic_partitions;
drop type partition_state;
drop type delivery_mode;
