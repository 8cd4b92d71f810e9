-- A replica waits for the end of its peer's presence by a lock of the peer, in short statements.
-- One long statement would keep its snapshot, and so hold back vacuum in the whole database, for as
-- long as both live. The version before this migration waits in its own way.

-- Returns true as soon as the presence of a session has ended, and false after lock_timeout. The
-- timeout is caught here, since PostgreSQL would log each one as an error.
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
