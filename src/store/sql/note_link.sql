-- Keeps the row of a warm session true. A chat that is gone has none. Where $11
-- says so the context is new, and has been given nothing of the chat.
with link as (
    insert into agent_sessions as a
        (chat_id, agent, session_id, worktree_id, backend, agent_session_id, config_hash, status, last_active_at)
    select c.id, $2, $3,
        (select w.id from worktrees w where w.session_id = $3 and w.status = 'active' limit 1),
        $5, $6, $7, $4, clock_timestamp()
    from chats c where c.id = $1
    on conflict (chat_id, agent) do update set
        session_id = excluded.session_id, worktree_id = excluded.worktree_id,
        backend = excluded.backend, agent_session_id = excluded.agent_session_id,
        config_hash = excluded.config_hash, status = excluded.status,
        last_active_at = excluded.last_active_at
    returning a.chat_id, a.agent
)
insert into hearth.agent_links as l (chat_id, agent, home_id, pid, continuity, begun)
select link.chat_id, link.agent, $8, $9, $10::jsonb, not $11 from link
on conflict (chat_id, agent) do update set
    home_id = excluded.home_id, pid = excluded.pid, continuity = excluded.continuity,
    begun = l.begun and not $11, forgotten = case when $11 then null else l.forgotten end
