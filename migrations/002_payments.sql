-- Payments. Parties and accounts recur from payment to payment, so a payment's row refers to them.
-- That, the order of the columns (eight-byte columns first, so that there is no padding) and the
-- bounds keep a row within 200 bytes.

create table parties (
    id        bigint generated always as identity,
    tenant_id integer not null,
    party_id  text    not null,
    name      text    not null,
    constraint parties_id_is_unique primary key (id),
    constraint parties_content_is_unique unique (tenant_id, party_id, name),
    constraint parties_tenant_exists foreign key (tenant_id) references tenants (id),
    constraint parties_party_id_in_bounds check (char_length(party_id) between 1 and 35),
    constraint parties_name_in_bounds check (char_length(name) between 1 and 140)
);

create table accounts (
    id        bigint generated always as identity,
    tenant_id integer not null,
    type      text    not null,
    number    text    not null,
    constraint accounts_id_is_unique primary key (id),
    constraint accounts_content_is_unique unique (tenant_id, type, number),
    constraint accounts_tenant_exists foreign key (tenant_id) references tenants (id),
    constraint accounts_type_has_form check (type ~ '^[a-z][a-z0-9_-]{0,34}$'),
    constraint accounts_number_in_bounds check (char_length(number) between 1 and 34)
);

-- Parties, accounts and tenants are immutable once written. Payments rely on that instead of
-- foreign keys, which would lock four rows of these tables for every payment, and the same few rows
-- for all payments of a busy account.
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% rows are immutable', tg_table_name using errcode = 'restrict_violation';
end
$$;
create trigger parties_are_immutable before update or delete on parties for each row execute function refuse_change();
create trigger accounts_are_immutable before update or delete on accounts for each row execute function refuse_change();
create trigger tenants_are_immutable before update or delete on tenants for each row execute function refuse_change();
create trigger parties_are_kept before truncate on parties for each statement execute function refuse_change();
create trigger accounts_are_kept before truncate on accounts for each statement execute function refuse_change();
create trigger tenants_are_kept before truncate on tenants for each statement execute function refuse_change();

create type payment_status as enum ('created', 'sent', 'accepted', 'rejected');

-- The order of emission within a partition. It has no cache: sessions that draw numbers ahead would
-- break the order.
create sequence payments_seq as bigint cache 1;

create table payments (
    seq            bigint         not null default nextval('payments_seq'),
    amount         bigint         not null, -- Minor units of the currency.
    originator_id  bigint         not null,
    beneficiary_id bigint         not null,
    sender_id      bigint         not null,
    receiver_id    bigint         not null,
    created_at     timestamptz    not null default now(),
    sent_at        timestamptz,
    kafka_offset   bigint,
    id             uuid           not null, -- Made from the tenant and the idempotency key (payment.DeriveID).
    tenant_id      integer        not null,
    status         payment_status not null default 'created',
    partition      smallint       not null, -- The Kafka partition, fixed here (payment.HashSender).
    currency       text           not null,
    reference      text,
    trace_context  bytea,                   -- W3C trace id, parent id and flags.
    constraint payments_id_is_unique primary key (id),
    constraint payments_amount_in_bounds check (amount between 1 and 999999999999999),
    constraint payments_currency_has_form check (currency ~ '^[A-Z]{3}$'),
    constraint payments_reference_in_bounds check (char_length(reference) between 1 and 35),
    constraint payments_trace_context_has_form check (octet_length(trace_context) = 25),
    constraint payments_partition_not_negative check (partition >= 0),
    constraint payments_offset_not_negative check (kafka_offset >= 0),
    constraint payments_sent_means_in_topic check (
        (status = 'created') = (sent_at is null) and (sent_at is null) = (kafka_offset is null))
);

-- For the sender: the unsent payments, in order. A sent payment leaves the index, which stays as
-- small as the backlog.
create index payments_unsent on payments (partition, seq) where status = 'created';

---- create above / drop below ----

drop table payments;
drop sequence payments_seq;
drop type payment_status;
drop trigger tenants_are_immutable on tenants;
drop trigger tenants_are_kept on tenants;
drop table accounts;
drop table parties;
drop function refuse_change();
