-- A replica waits for the end of the next one's presence by that one's lock, in short statements: a single long one would keep its snapshot, and with it every dead row of the
-- whole database from vacuum, for as long as both live. A version that runs before this migration waits in its own way.

-- Whether the presence of a session has ended, as soon as it has; false after lock_timeout. The time-out is caught here, since PostgreSQL would log each as an error.
create function presence_has_ended(pid integer) returns boolean language plpgsql volatile as $$
begin
    perform pg_advisory_lock_shared(1886413925, pid);
    return true;
exception when lock_not_available then
    return false;
end
$$;

---- create above / drop below ----

drop function presence_has_ended(integer);
