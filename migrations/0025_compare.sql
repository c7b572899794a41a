-- Looking at what a turn left that died with Hearth, and the order of what is applied.

set local search_path = public, pg_temp;

alter table hearth.operations drop constraint operations_kind_check,
    add constraint operations_kind_check check (kind in
        ('apply', 'reject', 'rewind', 'restore', 'adopt', 'retry', 'compare', 'stash', 'archive'));

-- A row keeps its age while the file is as it was; what covers what in the checkout is
-- told by when each came there. Rows that were applied before say it by their age.
alter table hearth.changes add column applied_at timestamptz;
