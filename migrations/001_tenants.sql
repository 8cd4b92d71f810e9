-- Who may use the installation. A tenant is never deleted or renamed, since payments, ids and
-- events name it. The version before this migration does not know these tables.

create table tenants (
    id         integer generated always as identity,
    name       text        not null,
    salt       bytea       not null, -- Payment ids are derived under it; changing it would break every retry.
    created_at timestamptz not null default now(),
    constraint tenants_id_is_unique primary key (id),
    constraint tenants_name_is_unique unique (name),
    constraint tenants_name_has_form check (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    constraint tenants_salt_is_256_bits check (octet_length(salt) = 32)
);

-- A key itself is shown once and never stored. A revoked key keeps its row, which distinguishes it
-- from an unknown one.
create table api_keys (
    id         integer generated always as identity,
    tenant_id  integer     not null,
    hash       bytea       not null, -- SHA-256 of the key.
    hint       text        not null, -- Its environment and last four characters.
    created_at timestamptz not null default now(),
    revoked_at timestamptz,
    constraint api_keys_id_is_unique primary key (id),
    constraint api_keys_hash_is_unique unique (hash),
    constraint api_keys_tenant_exists foreign key (tenant_id) references tenants (id),
    constraint api_keys_hash_is_256_bits check (octet_length(hash) = 32),
    constraint api_keys_revoked_after_created check (revoked_at >= created_at)
);

---- create above / drop below ----

drop table api_keys;
drop table tenants;
