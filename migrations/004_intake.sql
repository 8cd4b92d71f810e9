-- Partitions can be added while payments are taken: the intake closes for the moment in which accounts change their partition, so that none of them has unsent payments
-- in two. The version that runs before this migration does not ask: end it before `paylatch partitions grow`.

-- Whether payments may be stored that were spread over so many partitions, which must be just as many as there are: with more, a payment would go to a partition that nobody sends to (after a
-- restore, say). True until the statement's transaction ends: an operator who adds partitions holds the lock exclusively (package store). Two statements, so that the second sees what
-- was committed before the lock was had.
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
