-- API keys get scopes, an end, a note and the time of their last use. A tenant can be disabled. An
-- installation can be marked as a test installation, in which test keys work.
--
-- The version before this one goes on: it makes keys that are not restricted. But it accepts keys
-- that have ended, all scopes of a key, disabled tenants, and test keys everywhere. So use what is
-- new here once all replicas have this version.

alter table api_keys
    add column scopes       text[] not null default '{payments:create,payments:read}',
    add column expires_at   timestamptz,
    add column note         text not null default '',
    add column last_used_at timestamptz, -- To the minute.
    add constraint api_keys_scopes_are_known
        check (cardinality(scopes) > 0 and scopes <@ '{payments:create,payments:read}'),
    add constraint api_keys_expires_after_created check (expires_at > created_at),
    add constraint api_keys_note_in_bounds check (char_length(note) <= 200);

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

---- create above / drop below ----

drop table test_installation;
drop table tenant_settings;
alter table api_keys
    drop column scopes,
    drop column expires_at,
    drop column note,
    drop column last_used_at;
