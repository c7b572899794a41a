-- What a finished operation keeps is kept for a time: first the repository lets
-- go of `refs/hearth/operations/<id>`, then the row goes.

-- When the repository let go of it; null before.
alter table hearth.operations add column released_at timestamptz;
create index operations_spent_idx on hearth.operations(node, ended_at, id)
    where settled and released_at is null;
create index operations_released_idx on hearth.operations(ended_at)
    where released_at is not null;
