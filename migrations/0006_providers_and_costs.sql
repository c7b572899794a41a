-- What a look at each agent brought, beyond the columns of `available_agents`,
-- and an index for sums over time.

set local search_path = public, pg_temp;

-- A failed look keeps what the last good one found: `available_agents` and the
-- facts here stay, `fault` says what is wrong since `attempted_at`. A row may
-- be here without one there, of an agent that never was found.
create table hearth.providers (
    name text primary key,
    -- when a look was last tried, and what came of it; null where it went well
    attempted_at timestamptz,
    fault text,
    fault_detail text,
    cure text,
    -- when a look went well, or a live session told something
    learned_at timestamptz,
    -- `ready`, `needed` or null where nobody knows
    login text check (login in ('ready', 'needed')),
    catalog jsonb not null default '{}'::jsonb
);

-- Turns are written in the order of their claims, which never change: a
-- summary of block ranges is enough, and costs a claim next to nothing.
create index turns_claimed_idx on hearth.turns using brin (claimed_at);
