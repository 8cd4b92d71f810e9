-- Every create takes its transaction id before it draws a number from payments_seq. By a snapshot,
-- a sender can then know that each create which drew a number up to N has ended, and need not walk
-- over what it has sent (package store, floor). Otherwise an INSERT draws the number first: nextval
-- needs no transaction id, and ON CONFLICT may then wait for another transaction, still without
-- one.
--
-- The version before this one goes on: it calls intake_is_open, which is the same function now. A
-- later migration drops that name. Senders of this version need the rule for creates in progress,
-- too, so the lock waits for these. New ones are refused during that, as while partitions are
-- added. For the same reason end all senders of this version before this migration is taken back.
select pg_advisory_xact_lock(1886413923, 0);

-- Returns whether payments may be stored that were spread over the given number of partitions: see
-- migration 004.
create function create_gate_is_open(partitions smallint) returns boolean language plpgsql volatile as $$
begin
    if not pg_try_advisory_xact_lock_shared(1886413923, 0) then
        return false;
    end if;
    perform pg_current_xact_id();
    return exists (select from topic_partitions where partition = create_gate_is_open.partitions - 1)
        and not exists (select from topic_partitions where partition = create_gate_is_open.partitions);
end
$$;

create or replace function intake_is_open(partitions smallint) returns boolean language plpgsql volatile as $$
begin
    return create_gate_is_open(intake_is_open.partitions);
end
$$;

---- create above / drop below ----

create or replace function intake_is_open(partitions smallint) returns boolean language plpgsql volatile as $$
begin
    if not pg_try_advisory_xact_lock_shared(1886413923, 0) then
        return false;
    end if;
    return exists (select from topic_partitions where partition = intake_is_open.partitions - 1)
        and not exists (select from topic_partitions where partition = intake_is_open.partitions);
end
$$;

drop function create_gate_is_open(smallint);
