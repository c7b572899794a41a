-- Why tasks are parked.

set local search_path = public, pg_temp;

-- Open questions are rows of `hearth.prompts`; their frames are not looked up.
drop index if exists hearth.frames_asks_idx;
