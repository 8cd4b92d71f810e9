-- What a payment says cannot be changed once it is stored, as that of parties and accounts. Events
-- and responses are made from these rows, so a changed row would be emitted, or would contradict
-- what was emitted.
--
-- The version before this one goes on, since it changes no content and deletes no payment. Its
-- `partitions resume --resend` is refused if payments are to be sent again: use this version's.

create or replace function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '%', coalesce(tg_argv[0], tg_table_name || ' rows are immutable')
        using errcode = 'restrict_violation';
end
$$;

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
create function refuse_unmark() returns trigger language plpgsql as $$
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

create or replace function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% rows are immutable', tg_table_name using errcode = 'restrict_violation';
end
$$;
