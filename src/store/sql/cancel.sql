-- Cancels task $1 if it waits; marks its turn and tells the owner if it runs.
with turn as (
    update hearth.turns t
    set cancel_requested_at = coalesce(t.cancel_requested_at, clock_timestamp())
    where t.task_id = $1 and t.ended_at is null
    returning t.task_id
),
told as materialized (
    select pg_notify('hearth_control', 'cancel ' || turn.task_id::text) from turn
),
waiting as (
    update tasks t set state = 'cancelled', ended_at = clock_timestamp()
    where t.id = $1 and t.state = 'pending'
    returning t.id
),
message as (
    update messages m set status = 'cancelled'
    from waiting w join hearth.queue q on q.task_id = w.id
    where m.id = q.user_message_id and m.status = 'queued'
)
select
    exists (select 1 from tasks where id = $1) as found,
    exists (select 1 from waiting) as cancelled,
    (select count(*) from told) > 0 as requested
