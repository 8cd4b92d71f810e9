-- Records that cannot be changed, a log of what operators do, and keys that can do less.
--
-- Locks: tenants and api_keys come before payments, as in the programs' own transactions. Nothing
-- is rewritten, and no large table is read.

-- Raises the error that the trigger names.
create or replace function refuse_change() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception '%', coalesce(tg_argv[0], tg_table_name || ' rows are immutable')
        using errcode = 'restrict_violation';
end
$$;

-- 1. API keys get scopes, an end, a note and the time of their last use. A tenant can be disabled.
-- An installation can be marked as a test installation, in which test keys work.
--
-- The version before this one goes on: it makes keys that are not restricted. But it accepts keys
-- that have ended, all scopes of a key, disabled tenants, and test keys everywhere. So use what is
-- new here once all replicas have this version.

-- What an operator has decided about a tenant. Rows of tenants are immutable, since replicas cache
-- what payments refer to; this changes.
create table tenant_settings (
    tenant_id   integer not null,
    disabled_at timestamptz,
    constraint tenant_settings_tenant_is_unique primary key (tenant_id),
    constraint tenant_settings_tenant_exists foreign key (tenant_id) references tenants (id)
);

-- Has one row in a test installation, else none.
create table test_installation (
    id        boolean     not null default true,
    marked_at timestamptz not null default now(),
    constraint test_installation_is_unique primary key (id),
    constraint test_installation_is_one_row check (id)
);

alter table api_keys
    add column scopes       text[] not null default '{payments:create,payments:read}',
    add column expires_at   timestamptz,
    add column note         text not null default '',
    add column last_used_at timestamptz, -- To the minute.
    add constraint api_keys_scopes_are_known
        check (cardinality(scopes) > 0 and scopes <@ '{payments:create,payments:read}'),
    add constraint api_keys_expires_after_created check (expires_at > created_at),
    add constraint api_keys_note_in_bounds check (char_length(note) <= 200);

-- A revoked key stays revoked, and the operator's log stays right.
create trigger api_keys_stay_revoked before update of revoked_at on api_keys for each row
    when (old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at)
    execute function refuse_change('api_keys: a revoked key stays revoked');

-- 2. The operator's log: one row for each thing that an operator's command has changed, in the same
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
    -- As the trigger of another table it would run that table's casts as the owner.
    if tg_relid <> 'operator_log'::regclass then
        raise exception 'only for operator_log' using errcode = 'restrict_violation';
    end if;
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
        and action = new.action and role = new.role) then
        raise exception 'row % of the operator''s log did not begin %', new.begun, new.action
            using errcode = 'restrict_violation';
    end if;
    -- The unique index would refuse it later or, with ON CONFLICT, ignore it: a wrong head.
    if new.begun > 0 and exists (select from operator_log where begun = new.begun) then
        raise exception 'row % of the operator''s log has ended', new.begun using errcode = 'restrict_violation';
    end if;
    new.previous := head.hash;
    new.hash := sha256(new.previous || operator_log_encoding(new));
    update operator_log_head set seq = new.seq, hash = new.hash where only_row;
    return new;
end
$$;

-- The owner's rights are for this one trigger.
revoke execute on function operator_log_append() from public;

create trigger operator_log_is_chained before insert on operator_log
    for each row execute function operator_log_append();

create function operator_log_head_advance() returns trigger language plpgsql set search_path = pg_catalog, pg_temp
as $$
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

-- 3. What a payment says cannot be changed once it is stored, as that of parties and accounts.
-- Events and responses are made from these rows, so a changed row would be emitted, or would
-- contradict what was emitted.
--
-- The version before this one goes on, since it changes no content and deletes no payment. Its
-- `partitions resume --resend` is refused if payments are to be sent again: use this version's.

-- The trigger is one of the statement, and of these columns only. So the marking of a batch, which
-- sets the others, pays nothing for it.
create trigger payments_are_immutable
    before update of seq, amount, originator_id, beneficiary_id, sender_id, receiver_id, created_at, id, tenant_id,
        partition, currency, reference, trace_context on payments
    for each statement execute function refuse_change('payments: the content of a payment is immutable');

-- Only retention may delete payments, and none that is still to be sent. It says so by a setting of
-- its transaction. No role of the service has the privilege DELETE.
create trigger payments_are_kept before delete on payments for each row
    when (old.status = 'created' or current_setting('paylatch.retention', true) is distinct from 'on')
    execute function refuse_change('payments: a payment is kept; only retention deletes, and only what was sent');
create trigger payments_are_not_truncated before truncate on payments for each statement
    execute function refuse_change('payments: a payment is kept');

-- Lets the transaction send payments again whose records are lost. Only the owner and the
-- operator's role may execute it.
create function allow_resend() returns void language plpgsql as $$
begin
    perform set_config('paylatch.resend', 'on', true);
end
$$;
revoke execute on function allow_resend() from public;

-- A mark is final, except for an operator who sends again. Both the setting and the privilege are
-- checked, since any role can change a setting.
create function refuse_unmark() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if old.status = 'sent' and new.status = 'created' and current_setting('paylatch.resend', true) = 'on'
        and has_function_privilege(format('%I.allow_resend()', tg_table_schema), 'execute') then
        return null;
    end if;
    raise exception 'payments: payment % is marked %, and only `paylatch partitions resume --resend` takes a mark back',
        old.id, old.status using errcode = 'restrict_violation';
end
$$;

-- It comes after the change, since a trigger before it would lock each row once more. The first
-- condition is false for the marking of a batch.
create trigger payments_stay_marked after update of status, sent_at, kafka_offset on payments for each row
    when (old.status <> 'created' and (new.status = 'created' or old.status <> 'sent' and new.status <> old.status
        or new.sent_at <> old.sent_at or new.kafka_offset <> old.kafka_offset))
    execute function refuse_unmark();

---- create above / drop below ----

drop trigger payments_stay_marked on payments;
drop trigger payments_are_not_truncated on payments;
drop trigger payments_are_kept on payments;
drop trigger payments_are_immutable on payments;
drop function refuse_unmark();
drop function allow_resend();
-- The log is lost: see docs/operations.md.
drop function operator_log_encoding(operator_log);
drop table operator_log;
drop table operator_log_head;
drop function operator_log_append();
drop function operator_log_head_advance();
drop function operator_log_text(text);
drop trigger api_keys_stay_revoked on api_keys;
drop table test_installation;
drop table tenant_settings;
alter table api_keys
    drop column scopes,
    drop column expires_at,
    drop column note,
    drop column last_used_at;

create or replace function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% rows are immutable', tg_table_name using errcode = 'restrict_violation';
end
$$;
