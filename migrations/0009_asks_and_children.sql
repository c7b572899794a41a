-- Open questions are rows, not frames; and children's ends are told at once.

set local search_path = public, pg_temp;

-- Whoever wants open questions reads `hearth.prompts`; their frames are not looked up.
drop index if exists hearth.frames_asks_idx;

-- The frame of a child's end is in another stream than that of the turn that
-- ended, and no writer knows of it: whoever listens is told where it is. There
-- is one such word for each task that another one asked for, as at its insert.
create or replace function hearth.child_ended() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
declare
    parent record;
    place bigint;
begin
    select q.session_id, q.chat_id into parent
        from hearth.queue q where q.task_id = new.parent_task_id;
    if not found then
        return null;
    end if;
    update hearth.streams set last_seq = last_seq + 1
        where session_id = parent.session_id returning last_seq into place;
    if place is not null then
        insert into hearth.frames(session_id, seq, kind, chat_id, task_id, data)
            values (parent.session_id, place, 'task_updated', parent.chat_id, new.parent_task_id,
                jsonb_build_object('child', jsonb_build_object(
                    'task_id', new.id, 'state', new.state,
                    'outcome', (select t.outcome from hearth.turns t
                        where t.task_id = new.id order by t.attempt desc limit 1),
                    'summary', left(new.output_summary, 500))));
        perform pg_notify('hearth_control', 'frame ' || parent.session_id || ' ' || place);
    end if;
    return null;
end $$;
