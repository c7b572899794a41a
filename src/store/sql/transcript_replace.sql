-- As an append, in place of all entries that are there.
with mine as (
    update hearth.transcripts set written = $3
    where session_id = $1 and epoch = $2 and node is not null and written < $3
    returning session_id
), gone as (
    delete from claude_session_entries e using mine
    where e.session_id = mine.session_id and e.project_key = $4 and e.subpath = $5
), entries as (
    insert into claude_session_entries (project_key, session_id, subpath, entry)
    select $4, mine.session_id, $5, u.entry::jsonb
    from mine cross join unnest($6::text[], $7::text[]) with ordinality as u(uuid, entry, place)
    order by u.place
)
select true from mine
