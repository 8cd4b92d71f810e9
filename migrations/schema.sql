-- The sum of the migrations, for readers. `make schema` writes it; `make verify` checks that
-- it is current.

create type delivery_mode as enum ('locked', 'fenced');

create type partition_state as enum ('active', 'halted');

create type payment_status as enum ('created', 'sent', 'accepted', 'rejected');

create sequence payments_seq as bigint cache 1;

CREATE OR REPLACE FUNCTION public.allow_resend()
 RETURNS void
 LANGUAGE plpgsql
AS $function$
begin
    perform set_config('paylatch.resend', 'on', true);
end
$function$
;

CREATE OR REPLACE FUNCTION public.create_gate_is_open(partitions smallint)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
begin
    if not pg_try_advisory_xact_lock_shared(1886413923, 0) then
        return false;
    end if;
    perform pg_current_xact_id();
    return exists (select from topic_partitions where partition = create_gate_is_open.partitions - 1)
        and not exists (select from topic_partitions where partition = create_gate_is_open.partitions);
end
$function$
;

CREATE OR REPLACE FUNCTION public.intake_is_open(partitions smallint)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
begin
    return create_gate_is_open(intake_is_open.partitions);
end
$function$
;

CREATE OR REPLACE FUNCTION public.operator_log_append()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION public.operator_log_encoding(r operator_log)
 RETURNS bytea
 LANGUAGE sql
 STABLE STRICT
AS $function$
    select '\x01'::bytea || int8send(r.seq) || int8send((extract(epoch from r.at) * 1000000)::bigint)
        || int8send(r.system_id) || int8send(r.timeline) || int8send(r.database_id) || int8send(r.table_id)
        || operator_log_text(r.role) || operator_log_text(r.client_address) || operator_log_text(r.os_user)
        || operator_log_text(r.host) || operator_log_text(r.version) || operator_log_text(r.command)
        || operator_log_text(r.action) || operator_log_text(r.phase) || int8send(r.begun)
        || operator_log_text(r.result) || operator_log_text(r.arguments::text)
        || operator_log_text(r.before::text) || operator_log_text(r.after::text)
$function$
;

CREATE OR REPLACE FUNCTION public.operator_log_head_advance()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if new.seq <> old.seq + 1 then
        raise exception 'the head of the operator''s log only advances' using errcode = 'restrict_violation';
    end if;
    return new;
end
$function$
;

CREATE OR REPLACE FUNCTION public.operator_log_text(t text)
 RETURNS bytea
 LANGUAGE sql
 STABLE STRICT
AS $function$
    select int4send(octet_length(convert_to(t, 'UTF8'))) || convert_to(t, 'UTF8')
$function$
;

CREATE OR REPLACE FUNCTION public.presence_has_ended(pid integer)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
begin
    perform pg_advisory_lock_shared(1886413925, pid);
    return true;
exception when lock_not_available then
    return false;
end
$function$
;

CREATE OR REPLACE FUNCTION public.refuse_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    raise exception '%', coalesce(tg_argv[0], tg_table_name || ' rows are immutable')
        using errcode = 'restrict_violation';
end
$function$
;

CREATE OR REPLACE FUNCTION public.refuse_unmark()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if old.status = 'sent' and new.status = 'created' and current_setting('paylatch.resend', true) = 'on'
        and has_function_privilege(format('%I.allow_resend()', tg_table_schema), 'execute') then
        return null;
    end if;
    raise exception 'payments: payment % is marked %, and only `paylatch partitions resume --resend` takes a mark back',
        old.id, old.status using errcode = 'restrict_violation';
end
$function$
;

create table accounts (
    id bigint not null generated always as identity,
    tenant_id integer not null,
    type text not null,
    number text not null,
    constraint accounts_id_is_unique PRIMARY KEY (id),
    constraint accounts_content_is_unique UNIQUE (tenant_id, type, number),
    constraint accounts_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenants(id),
    constraint accounts_number_in_bounds CHECK (((char_length(number) >= 1) AND (char_length(number) <= 34))),
    constraint accounts_type_has_form CHECK ((type ~ '^[a-z][a-z0-9_-]{0,34}$'::text))
);

create table api_keys (
    id integer not null generated always as identity,
    tenant_id integer not null,
    hash bytea not null,
    hint text not null,
    created_at timestamp with time zone not null default now(),
    revoked_at timestamp with time zone,
    scopes text[] not null default '{payments:create,payments:read}'::text[],
    expires_at timestamp with time zone,
    note text not null default ''::text,
    last_used_at timestamp with time zone,
    constraint api_keys_id_is_unique PRIMARY KEY (id),
    constraint api_keys_hash_is_unique UNIQUE (hash),
    constraint api_keys_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenants(id),
    constraint api_keys_expires_after_created CHECK ((expires_at > created_at)),
    constraint api_keys_hash_is_256_bits CHECK ((octet_length(hash) = 32)),
    constraint api_keys_note_in_bounds CHECK ((char_length(note) <= 200)),
    constraint api_keys_revoked_after_created CHECK ((revoked_at >= created_at)),
    constraint api_keys_scopes_are_known CHECK (((cardinality(scopes) > 0) AND (scopes <@ '{payments:create,payments:read}'::text[])))
);

create table operator_log (
    seq bigint not null,
    format smallint not null,
    at timestamp with time zone not null,
    system_id bigint not null,
    timeline integer not null,
    database_id bigint not null,
    table_id bigint not null,
    role text not null,
    client_address text not null,
    os_user text not null,
    host text not null,
    version text not null,
    command text not null,
    action text not null,
    phase text not null,
    begun bigint not null default 0,
    result text not null default ''::text,
    arguments json not null,
    before json not null,
    after json not null,
    previous bytea not null,
    hash bytea not null,
    constraint operator_log_seq_is_unique PRIMARY KEY (seq),
    constraint operator_log_action_in_bounds CHECK (((octet_length(action) >= 1) AND (octet_length(action) <= 64))),
    constraint operator_log_after_in_bounds CHECK ((octet_length((after)::text) <= 2048)),
    constraint operator_log_arguments_in_bounds CHECK ((octet_length((arguments)::text) <= 2048)),
    constraint operator_log_before_in_bounds CHECK ((octet_length((before)::text) <= 2048)),
    constraint operator_log_command_in_bounds CHECK (((octet_length(command) >= 1) AND (octet_length(command) <= 64))),
    constraint operator_log_ended_has_result CHECK (
CASE phase
    WHEN 'ended'::text THEN (result = ANY (ARRAY['succeeded'::text, 'failed'::text, 'unknown'::text]))
    ELSE (result = ''::text)
END),
    constraint operator_log_ended_was_begun CHECK ((((phase = 'ended'::text) = (begun > 0)) AND (begun >= 0) AND (begun < GREATEST(seq, (1)::bigint)))),
    constraint operator_log_hashes_are_256_bits CHECK (((octet_length(previous) = 32) AND (octet_length(hash) = 32))),
    constraint operator_log_host_in_bounds CHECK (((octet_length(host) >= 1) AND (octet_length(host) <= 255))),
    constraint operator_log_os_user_in_bounds CHECK (((octet_length(os_user) >= 1) AND (octet_length(os_user) <= 128))),
    constraint operator_log_phase_is_known CHECK ((phase = ANY (ARRAY['done'::text, 'begun'::text, 'ended'::text]))),
    constraint operator_log_seq_is_positive CHECK ((seq > 0)),
    constraint operator_log_version_in_bounds CHECK (((octet_length(version) >= 1) AND (octet_length(version) <= 128)))
);

create table operator_log_head (
    only_row boolean not null default true,
    seq bigint not null,
    hash bytea not null,
    constraint operator_log_head_is_one_row PRIMARY KEY (only_row),
    constraint operator_log_head_has_no_other_row CHECK (only_row),
    constraint operator_log_head_hash_is_256_bits CHECK ((octet_length(hash) = 32))
);

create table parties (
    id bigint not null generated always as identity,
    tenant_id integer not null,
    party_id text not null,
    name text not null,
    constraint parties_id_is_unique PRIMARY KEY (id),
    constraint parties_content_is_unique UNIQUE (tenant_id, party_id, name),
    constraint parties_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenants(id),
    constraint parties_name_in_bounds CHECK (((char_length(name) >= 1) AND (char_length(name) <= 140))),
    constraint parties_party_id_in_bounds CHECK (((char_length(party_id) >= 1) AND (char_length(party_id) <= 35)))
);

create table payments (
    seq bigint not null default nextval('payments_seq'::regclass),
    amount bigint not null,
    originator_id bigint not null,
    beneficiary_id bigint not null,
    sender_id bigint not null,
    receiver_id bigint not null,
    created_at timestamp with time zone not null default now(),
    sent_at timestamp with time zone,
    kafka_offset bigint,
    id uuid not null,
    tenant_id integer not null,
    status payment_status not null default 'created'::payment_status,
    partition smallint not null,
    currency text not null,
    reference text,
    trace_context bytea,
    constraint payments_id_is_unique PRIMARY KEY (id),
    constraint payments_amount_in_bounds CHECK (((amount >= 1) AND (amount <= '999999999999999'::bigint))),
    constraint payments_currency_has_form CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    constraint payments_offset_not_negative CHECK ((kafka_offset >= 0)),
    constraint payments_partition_not_negative CHECK ((partition >= 0)),
    constraint payments_reference_in_bounds CHECK (((char_length(reference) >= 1) AND (char_length(reference) <= 35))),
    constraint payments_sent_means_in_topic CHECK ((((status = 'created'::payment_status) = (sent_at IS NULL)) AND ((sent_at IS NULL) = (kafka_offset IS NULL)))),
    constraint payments_trace_context_has_form CHECK ((octet_length(trace_context) = 25))
) with (autovacuum_vacuum_threshold=200000, autovacuum_vacuum_scale_factor=0.001, vacuum_index_cleanup=on);

create table tenant_settings (
    tenant_id integer not null,
    disabled_at timestamp with time zone,
    constraint tenant_settings_tenant_is_unique PRIMARY KEY (tenant_id),
    constraint tenant_settings_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenants(id)
);

create table tenants (
    id integer not null generated always as identity,
    name text not null,
    salt bytea not null,
    created_at timestamp with time zone not null default now(),
    constraint tenants_id_is_unique PRIMARY KEY (id),
    constraint tenants_name_is_unique UNIQUE (name),
    constraint tenants_name_has_form CHECK ((name ~ '^[a-z0-9][a-z0-9-]{0,62}$'::text)),
    constraint tenants_salt_is_256_bits CHECK ((octet_length(salt) = 32))
);

create table test_installation (
    id boolean not null default true,
    marked_at timestamp with time zone not null default now(),
    constraint test_installation_is_unique PRIMARY KEY (id),
    constraint test_installation_is_one_row CHECK (id)
);

create table topic_partitions (
    partition smallint not null,
    topic text not null,
    topic_id uuid not null,
    transactional_id text not null,
    delivery delivery_mode not null,
    generation bigint not null default 0,
    next_offset bigint not null,
    state partition_state not null default 'active'::partition_state,
    reason text,
    changed_at timestamp with time zone not null default now(),
    constraint topic_partitions_partition_is_unique PRIMARY KEY (partition),
    constraint topic_partitions_transactional_id_is_unique UNIQUE (transactional_id),
    constraint topic_partitions_generation_not_negative CHECK ((generation >= 0)),
    constraint topic_partitions_halted_has_reason CHECK (((state = 'halted'::partition_state) = (reason IS NOT NULL))),
    constraint topic_partitions_next_offset_not_negative CHECK ((next_offset >= 0)),
    constraint topic_partitions_partition_not_negative CHECK ((partition >= 0))
) with (fillfactor=20, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=1000);

CREATE UNIQUE INDEX operator_log_begun ON public.operator_log USING btree (begun) WHERE (begun > 0);

CREATE INDEX payments_unsent ON public.payments USING btree (partition, seq) WHERE (status = 'created'::payment_status);

CREATE TRIGGER accounts_are_immutable BEFORE DELETE OR UPDATE ON public.accounts FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER accounts_are_kept BEFORE TRUNCATE ON public.accounts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER api_keys_stay_revoked BEFORE UPDATE OF revoked_at ON public.api_keys FOR EACH ROW WHEN (((old.revoked_at IS NOT NULL) AND (new.revoked_at IS DISTINCT FROM old.revoked_at))) EXECUTE FUNCTION refuse_change('api_keys: a revoked key stays revoked');

CREATE TRIGGER operator_log_head_advances BEFORE UPDATE ON public.operator_log_head FOR EACH ROW EXECUTE FUNCTION operator_log_head_advance();

CREATE TRIGGER operator_log_head_is_immutable BEFORE INSERT OR DELETE ON public.operator_log_head FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER operator_log_head_is_kept BEFORE TRUNCATE ON public.operator_log_head FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER operator_log_is_chained BEFORE INSERT ON public.operator_log FOR EACH ROW EXECUTE FUNCTION operator_log_append();

CREATE TRIGGER operator_log_is_immutable BEFORE DELETE OR UPDATE ON public.operator_log FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER operator_log_is_kept BEFORE TRUNCATE ON public.operator_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER parties_are_immutable BEFORE DELETE OR UPDATE ON public.parties FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER parties_are_kept BEFORE TRUNCATE ON public.parties FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER payments_are_immutable BEFORE UPDATE OF seq, amount, originator_id, beneficiary_id, sender_id, receiver_id, created_at, id, tenant_id, partition, currency, reference, trace_context ON public.payments FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('payments: the content of a payment is immutable');

CREATE TRIGGER payments_are_kept BEFORE DELETE ON public.payments FOR EACH ROW WHEN (((old.status = 'created'::payment_status) OR (current_setting('paylatch.retention'::text, true) IS DISTINCT FROM 'on'::text))) EXECUTE FUNCTION refuse_change('payments: a payment is kept; only retention deletes, and only what was sent');

CREATE TRIGGER payments_are_not_truncated BEFORE TRUNCATE ON public.payments FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('payments: a payment is kept');

CREATE TRIGGER payments_stay_marked AFTER UPDATE OF status, sent_at, kafka_offset ON public.payments FOR EACH ROW WHEN (((old.status <> 'created'::payment_status) AND ((new.status = 'created'::payment_status) OR ((old.status <> 'sent'::payment_status) AND (new.status <> old.status)) OR (new.sent_at <> old.sent_at) OR (new.kafka_offset <> old.kafka_offset)))) EXECUTE FUNCTION refuse_unmark();

CREATE TRIGGER tenants_are_immutable BEFORE DELETE OR UPDATE ON public.tenants FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER tenants_are_kept BEFORE TRUNCATE ON public.tenants FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
