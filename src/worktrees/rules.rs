//! What has a say in how files become objects: settings, excludes, attributes.

use std::path::PathBuf;

use git2::{Config, Repository};

use super::stat::Stat;

/// The rules that held when a snapshot was begun.
pub(super) struct Rules {
    /// The files outside the worktree that have a say, as they were.
    pub(super) files: Vec<(PathBuf, Option<Stat>)>,
    /// Contents are stored as they are: nothing asks for another form.
    pub(super) plain: bool,
}

impl Rules {
    /// None when the repository does things that only a whole scan by libgit2
    /// knows about, or its settings include files that are not known here.
    pub(super) fn of(repo: &Repository) -> Option<Self> {
        let config = repo.config().ok()?.snapshot().ok()?;
        if config.entries(Some("^include")).ok()?.next().is_some() {
            return None;
        }
        let set = |key: &str, default| config.get_bool(key).unwrap_or(default);
        let unusual = !set("core.fileMode", true)
            || !set("core.symlinks", true)
            || set("core.ignoreCase", false)
            || set("core.precomposeUnicode", false)
            || set("core.sparseCheckout", false);
        if unusual {
            return None;
        }
        let watch = |path: PathBuf| {
            let stat = Stat::at(&path);
            (path, stat)
        };
        let attributes: Vec<_> = attributes(repo).into_iter().map(watch).collect();
        let converts = config
            .get_string("core.autocrlf")
            .is_ok_and(|value| value.parse() != Ok(false));
        let plain = !converts && attributes.iter().all(|(_, stat)| stat.is_none());
        let settings = settings(repo, &config).into_iter().map(watch);
        Some(Self {
            files: settings.chain(attributes).collect(),
            plain,
        })
    }
}

/// Whether the permissions of files are believed (`core.fileMode`).
pub(super) fn believes_modes(repo: &Repository) -> bool {
    let says = repo
        .config()
        .and_then(|config| config.get_bool("core.fileMode"));
    says.unwrap_or(true)
}

/// Whether a file of this name has a say in what other files are.
pub(super) fn is_rule(name: &[u8]) -> bool {
    matches!(name, b".gitignore" | b".gitattributes")
}

/// The files of ignore rules outside the worktree, the one that outranks the
/// other first: the repository's, then the user's.
pub(super) fn excludes(repo: &Repository) -> Vec<PathBuf> {
    let named = repo
        .config()
        .and_then(|config| config.get_path("core.excludesFile"));
    let user = named.ok().or_else(|| Some(user_folder()?.join("ignore")));
    let own = repo.commondir().join("info/exclude");
    [own].into_iter().chain(user).collect()
}

/// Where the user's git keeps files that are not in the home itself.
fn user_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let xdg = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    xdg.map(|xdg| xdg.join("git"))
}

/// The files of attributes outside the worktree: of the repository, the user
/// and the system.
pub(super) fn attributes(repo: &Repository) -> Vec<PathBuf> {
    let mut files = vec![
        repo.commondir().join("info/attributes"),
        PathBuf::from("/etc/gitattributes"),
    ];
    let beside = |system: PathBuf| system.with_file_name("gitattributes");
    files.extend(Config::find_system().map(beside));
    files.extend(user_folder().map(|folder| folder.join("attributes")));
    let named = repo
        .config()
        .and_then(|config| config.get_path("core.attributesFile"));
    files.extend(named);
    files
}

/// The files of settings and excludes: of the repository, the user and the
/// system. The worktree's index is among them, for it says what is tracked.
fn settings(repo: &Repository, config: &Config) -> Vec<PathBuf> {
    let (common, own) = (repo.commondir(), repo.path());
    let mut settings = vec![
        own.join("index"),
        own.join("config.worktree"),
        common.join("config"),
        common.join("config.worktree"),
        common.join("info/exclude"),
        PathBuf::from("/etc/gitconfig"),
    ];
    settings.extend(Config::find_system());
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let xdg = |name: &str| user_folder().map(|folder| folder.join(name));
    settings.extend(home.map(|home| home.join(".gitconfig")));
    settings.extend(xdg("config"));
    settings.extend(xdg("ignore"));
    settings.extend(config.get_path("core.excludesFile"));
    settings
}
