-- Partitions can be added while payments are taken. No payment is stored for the moment in which
-- accounts change their partition, so that no account has unsent payments in two. The version
-- before this migration does not check that: end it before `paylatch partitions grow`.

-- Returns whether payments may be stored that were spread over the given number of partitions.
-- There must be just as many: with more, a payment would go to a partition that no sender serves
-- (after a restore, say). True until the statement's transaction ends: an operator who adds
-- partitions holds the lock exclusively (package store). There are two statements, so that the
-- second one sees what was committed before the lock was granted.
create function intake_is_open(partitions smallint) returns boolean language plpgsql volatile as $$
begin
    if not pg_try_advisory_xact_lock_shared(1886413923, 0) then
        return false;
    end if;
    return exists (select from topic_partitions where partition = intake_is_open.partitions - 1)
        and not exists (select from topic_partitions where partition = intake_is_open.partitions);
end
$$;

---- create above / drop below ----

drop function intake_is_open(smallint);
