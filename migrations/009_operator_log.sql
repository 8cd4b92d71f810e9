-- The operator's log: one row for each thing that an operator's command has changed, in the same
-- transaction as the change. Each row has a hash over the row before it and its own content, so
-- that a row which was changed, removed, swapped or inserted later is found (docs/operations.md).
-- The version before this migration goes on; its commands write no rows.
create table operator_log (
    -- PostgreSQL sets the columns up to client_address, and both hashes, whatever a program says.
    seq            bigint      not null, -- From 1, without gaps.
    format         smallint    not null, -- Of the encoding that is hashed.
    at             timestamptz not null,
    system_id      bigint      not null, -- Of the cluster, the database and the table that the row was written in, and
    timeline       integer     not null, -- the timeline of its WAL: a copy that was restored differs in one of them.
    database_id    bigint      not null,
    table_id       bigint      not null,
    role           text        not null, -- As which the session has logged in.
    client_address text        not null, -- As PostgreSQL sees it; empty for a Unix socket.
    os_user        text        not null, -- From here on, as the program reports it.
    host           text        not null,
    version        text        not null,
    command        text        not null,
    action         text        not null, -- What was done; a command like setup does several things.
    phase          text        not null,
    begun          bigint      not null default 0, -- Of an ended row: the row that began it.
    result         text        not null default '',
    arguments      json        not null,
    before         json        not null,
    after          json        not null,
    previous       bytea       not null, -- The hash of the row before; zeros in the first row.
    hash           bytea       not null,
    constraint operator_log_seq_is_unique primary key (seq),
    constraint operator_log_seq_is_positive check (seq > 0),
    constraint operator_log_os_user_in_bounds check (octet_length(os_user) between 1 and 128),
    constraint operator_log_host_in_bounds check (octet_length(host) between 1 and 255),
    constraint operator_log_version_in_bounds check (octet_length(version) between 1 and 128),
    constraint operator_log_command_in_bounds check (octet_length(command) between 1 and 64),
    constraint operator_log_action_in_bounds check (octet_length(action) between 1 and 64),
    constraint operator_log_arguments_in_bounds check (octet_length(arguments::text) <= 2048),
    constraint operator_log_before_in_bounds check (octet_length(before::text) <= 2048),
    constraint operator_log_after_in_bounds check (octet_length(after::text) <= 2048),
    constraint operator_log_phase_is_known check (phase in ('done', 'begun', 'ended')),
    constraint operator_log_ended_was_begun check (
        (phase = 'ended') = (begun > 0) and begun >= 0 and begun < greatest(seq, 1)),
    constraint operator_log_ended_has_result check (
        case phase when 'ended' then result in ('succeeded', 'failed', 'unknown') else result = '' end),
    constraint operator_log_hashes_are_256_bits check (octet_length(previous) = 32 and octet_length(hash) = 32)
);

-- An operation ends at most once.
create unique index operator_log_begun on operator_log (begun) where begun > 0;

-- The last row of the log. A row is written last in its transaction, just before the commit, and
-- this row is locked only from then on: a long command does not delay others.
create table operator_log_head (
    only_row boolean not null default true,
    seq      bigint  not null,
    hash     bytea   not null,
    constraint operator_log_head_is_one_row primary key (only_row),
    constraint operator_log_head_has_no_other_row check (only_row),
    constraint operator_log_head_hash_is_256_bits check (octet_length(hash) = 32)
);

insert into operator_log_head (seq, hash) values (0, decode(repeat('00', 32), 'hex'));

-- Returns the length of a text in bytes, in four bytes, and the text in UTF-8.
create function operator_log_text(t text) returns bytea language sql stable strict as $$
    select int4send(octet_length(convert_to(t, 'UTF8'))) || convert_to(t, 'UTF8')
$$;

-- Returns the encoding of a row in format 1: the format in one byte, integers in eight bytes, the
-- time in microseconds since 1970, texts as in operator_log_text. Package operatorlog has the same
-- encoding, by which it checks the rows without this function.
create function operator_log_encoding(r operator_log) returns bytea language sql stable strict as $$
    select '\x01'::bytea || int8send(r.seq) || int8send((extract(epoch from r.at) * 1000000)::bigint)
        || int8send(r.system_id) || int8send(r.timeline) || int8send(r.database_id) || int8send(r.table_id)
        || operator_log_text(r.role) || operator_log_text(r.client_address) || operator_log_text(r.os_user)
        || operator_log_text(r.host) || operator_log_text(r.version) || operator_log_text(r.command)
        || operator_log_text(r.action) || operator_log_text(r.phase) || int8send(r.begun)
        || operator_log_text(r.result) || operator_log_text(r.arguments::text)
        || operator_log_text(r.before::text) || operator_log_text(r.after::text)
$$;

-- Appends a row to the chain. It runs as the owner of the schema, so that an operator's role needs
-- only INSERT on the log: it can neither write the head nor choose what PostgreSQL knows better.
create function operator_log_append() returns trigger language plpgsql security definer set search_path from current
as $$
declare
    head operator_log_head;
begin
    select * into strict head from operator_log_head where only_row for update;
    new.seq := head.seq + 1;
    new.format := 1;
    new.at := clock_timestamp();
    select system_identifier into strict new.system_id from pg_control_system();
    new.timeline := ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer;
    select oid into strict new.database_id from pg_database where datname = current_database();
    new.table_id := tg_relid;
    new.role := session_user;
    new.client_address := coalesce(host(inet_client_addr()), '');
    if new.begun > 0 and not exists (select from operator_log where seq = new.begun and phase = 'begun'
        and action = new.action) then
        raise exception 'row % of the operator''s log did not begin %', new.begun, new.action
            using errcode = 'restrict_violation';
    end if;
    new.previous := head.hash;
    new.hash := sha256(new.previous || operator_log_encoding(new));
    update operator_log_head set seq = new.seq, hash = new.hash where only_row;
    return new;
end
$$;

create trigger operator_log_is_chained before insert on operator_log
    for each row execute function operator_log_append();

create function operator_log_head_advance() returns trigger language plpgsql as $$
begin
    if new.seq <> old.seq + 1 then
        raise exception 'the head of the operator''s log only advances' using errcode = 'restrict_violation';
    end if;
    return new;
end
$$;

create trigger operator_log_is_immutable before update or delete on operator_log
    for each row execute function refuse_change();
create trigger operator_log_is_kept before truncate on operator_log for each statement execute function refuse_change();
create trigger operator_log_head_advances before update on operator_log_head
    for each row execute function operator_log_head_advance();
create trigger operator_log_head_is_immutable before insert or delete on operator_log_head
    for each row execute function refuse_change();
create trigger operator_log_head_is_kept before truncate on operator_log_head
    for each statement execute function refuse_change();

---- create above / drop below ----

-- The log is lost: see docs/operations.md.
drop function operator_log_encoding(operator_log);
drop table operator_log;
drop table operator_log_head;
drop function operator_log_append();
drop function operator_log_head_advance();
drop function operator_log_text(text);
