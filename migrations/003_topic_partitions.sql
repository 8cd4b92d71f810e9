-- How far each Kafka partition is emitted, and how. The row's lock makes emission exclusive: a
-- sender that publishes to a partition holds it from before the first record until the mark is
-- committed. `paylatch partitions init` inserts the rows, once.

create type delivery_mode as enum ('locked', 'fenced');
create type partition_state as enum ('active', 'halted');

create table topic_partitions (
    partition        smallint        not null,
    topic            text            not null,
    topic_id         uuid            not null, -- Kafka's: a topic that is created again has another one.
    transactional_id text            not null, -- Of the one producer that may publish here, in fenced delivery.
    delivery         delivery_mode   not null,
    generation       bigint          not null default 0, -- Counts takeovers.
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
    -- A few rows, updated once per batch. Room in the page keeps the updates HOT, since none of the
    -- updated columns is indexed. Vacuum comes early: if some session holds an old snapshot, a
    -- small table with many updates bloats most.
    -- Source: https://www.postgresql.org/docs/current/storage-hot.html
    fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000
);

---- create above / drop below ----

drop table topic_partitions;
drop type partition_state;
drop type delivery_mode;
