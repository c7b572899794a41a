-- A session may branch off from a checkpoint of another: the commit whose files
-- its worktree begins with. Base commit and baseline are those of a worktree that
-- begins at the project's own commit, so that these files show as changes.
alter table hearth.worktrees add column begins_with text;
