-- Frames are kept for a time. What was deleted of a stream is told by its row: a
-- reader whose cursor is older gets the present state instead. `pruned_at` is the
-- time of the newest frame that was deleted.
alter table hearth.streams
    add column pruned_to bigint not null default 0,
    add column pruned_at timestamptz;

-- Open questions are looked up by their frames; there are few of them.
create index frames_asks_idx on hearth.frames(session_id, seq)
    where kind in ('permission_requested', 'permission_resolved');
