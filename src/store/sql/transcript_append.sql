-- Write $3 of the owner $2 of the session $1: entries $7 with the uuids $6 (null
-- where there is none), none twice, behind those of the transcript $4 $5. No row when
-- the write was made before or somebody else owns the session. A second try of the
-- write waits for the first one's lock and then finds the number.
with mine as (
    update hearth.transcripts set written = $3
    where session_id = $1 and epoch = $2 and node is not null and written < $3
    returning session_id
), entries as (
    insert into claude_session_entries (project_key, session_id, subpath, entry)
    select $4, mine.session_id, $5, u.entry::jsonb
    from mine cross join unnest($6::text[], $7::text[]) with ordinality as u(uuid, entry, place)
    where u.uuid is null or not exists (
        select 1 from claude_session_entries e
        where e.session_id = $1 and e.project_key = $4 and e.subpath = $5
            and left(e.entry->>'uuid', 64) = u.uuid)
    order by u.place
)
select true from mine
