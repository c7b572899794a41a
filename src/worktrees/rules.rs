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
        let (settings, attributes) = rule_files(repo, &config);
        let watch = |path: PathBuf| {
            let stat = Stat::at(&path);
            (path, stat)
        };
        let attributes: Vec<_> = attributes.into_iter().map(watch).collect();
        let converts = config
            .get_string("core.autocrlf")
            .is_ok_and(|value| value.parse() != Ok(false));
        let plain = !converts && attributes.iter().all(|(_, stat)| stat.is_none());
        let settings = settings.into_iter().map(watch);
        Some(Self {
            files: settings.chain(attributes).collect(),
            plain,
        })
    }
}

/// Whether a file of this name has a say in what other files are.
pub(super) fn is_rule(name: &[u8]) -> bool {
    matches!(name, b".gitignore" | b".gitattributes")
}

/// The files of settings and excludes, and those of attributes: of the
/// repository, the user and the system. The worktree's index is among the
/// settings, for it says what is tracked.
fn rule_files(repo: &Repository, config: &Config) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (common, own) = (repo.commondir(), repo.path());
    let mut settings = vec![
        own.join("index"),
        own.join("config.worktree"),
        common.join("config"),
        common.join("config.worktree"),
        common.join("info/exclude"),
        PathBuf::from("/etc/gitconfig"),
    ];
    let mut attributes = vec![
        common.join("info/attributes"),
        PathBuf::from("/etc/gitattributes"),
    ];
    if let Ok(system) = Config::find_system() {
        attributes.push(system.with_file_name("gitattributes"));
        settings.push(system);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let xdg = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let xdg = xdg.or_else(|| home.as_ref().map(|home| home.join(".config")));
    let xdg = |name: &str| xdg.as_ref().map(|xdg| xdg.join("git").join(name));
    settings.extend(home.map(|home| home.join(".gitconfig")));
    settings.extend(xdg("config"));
    settings.extend(xdg("ignore"));
    attributes.extend(xdg("attributes"));
    let named = |key: &str| config.get_path(key).ok();
    settings.extend(named("core.excludesFile"));
    attributes.extend(named("core.attributesFile"));
    (settings, attributes)
}
