-- What an operation's comparison found is said to be of whoever changed a file last:
-- its newest row is looked up for each file.
create index if not exists pending_changes_file_idx
    on pending_changes(session_id, file_path, created_at desc);
