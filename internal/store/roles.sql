-- The database roles of Paylatch, and all that each of them may do. Execute this as the owner of
-- the schema, with CREATEROLE, after each migration. It can be executed again: it takes back what
-- else these roles had in the schema, and through each other.
--
-- The roles do not log in. Grant each to the role that does:
--     create role api_1 login password '…' in role paylatch_api;
begin;
set local search_path = public;

do $$
declare
    name text;
    other text;
begin
    foreach name in array
        '{paylatch_common,paylatch_api,paylatch_sender,paylatch_operator,paylatch_retention}'::text[]
    loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I nologin', name);
        end if;
        execute format('revoke all on schema public from %I', name);
        execute format('revoke all on all tables in schema public from %I', name);
        execute format('revoke all on all sequences in schema public from %I', name);
        execute format('revoke all on all functions in schema public from %I', name);
    end loop;
    for name, other in
        select r.rolname, m.rolname from pg_auth_members a
            join pg_roles r on r.oid = a.roleid join pg_roles m on m.oid = a.member
        where array[r.rolname::text, m.rolname::text]
            <@ '{paylatch_common,paylatch_api,paylatch_sender,paylatch_operator,paylatch_retention}'::text[]
    loop
        execute format('revoke %I from %I', name, other);
    end loop;
end
$$;

-- Each program reads, and advances a sequence that logical replication has left behind its table.
-- verify, storage, tenants list and partitions list need no more. UPDATE on a sequence also lets a
-- role set it back, which would change the order of payments: give it to no one else.
grant usage on schema public to paylatch_common;
grant select on schema_version, tenants, api_keys, tenant_settings, test_installation, topic_partitions, payments,
    parties, accounts to paylatch_common;
grant select, update on sequence payments_seq, parties_id_seq, accounts_id_seq, tenants_id_seq, api_keys_id_seq
    to paylatch_common;

-- api: stores payments, and when a key was last used. It sets neither the mark nor the number of a
-- payment.
grant paylatch_common to paylatch_api;
grant insert (id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id, receiver_id, reference,
    trace_context, partition) on payments to paylatch_api;
grant insert on parties, accounts to paylatch_api;
grant update (last_used_at) on api_keys to paylatch_api;
grant execute on function create_gate_is_open(smallint) to paylatch_api;

-- sender: marks payments, and puts back what a restored database has lost.
grant paylatch_common to paylatch_sender;
grant update (status, sent_at, kafka_offset) on payments to paylatch_sender;
grant update (generation, next_offset, state, reason, changed_at) on topic_partitions to paylatch_sender;
grant insert on payments, parties, accounts to paylatch_sender;
grant execute on function presence_has_ended(integer) to paylatch_sender;

-- An operator, for tenants, partitions and operator-log.
grant paylatch_sender to paylatch_operator;
grant insert on tenants, api_keys, topic_partitions to paylatch_operator;
grant update (revoked_at) on api_keys to paylatch_operator;
grant insert, update on tenant_settings to paylatch_operator;
grant update (topic_id, delivery) on topic_partitions to paylatch_operator;
grant execute on function allow_resend() to paylatch_operator;
grant select, insert on operator_log to paylatch_operator;
grant select on operator_log_head to paylatch_operator;

-- Retention, which no version of this program has yet. It deletes sent payments in a transaction
-- that says: set local paylatch.retention = on.
grant usage on schema public to paylatch_retention;
grant select, delete on payments to paylatch_retention;
commit;
